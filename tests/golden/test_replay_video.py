"""The engine's own rollout against the published streaming pipeline's numbers, the published defects switched on."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.video import schedulers
from tests.engine.video.reference_policies import ReferenceRing
from tools.reference_video import differences, load_case
from tools.replay_reference import TOLERANCE, compare_video, main

DUMPS = Path(__file__).resolve().parents[2].parent / "shared" / "golden" / "video_stream"
CASES = sorted(DUMPS.glob("*.pt"))

pytestmark = pytest.mark.skipif(not CASES, reason="the reference dumps (shared/golden/video_stream) are not beside the checkout")


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_noise_scales_timesteps_outputs_ring_and_final_cache_agree(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    case = load_case(path)
    assert case is not None
    chunks = case.dump["chunks"]
    assert sum(" output: " in line for line in lines) == 1 + sum(chunk.get("ready", True) for chunk in chunks)
    assert sum(" noise scale: " in line for line in lines) == len(chunks)
    assert sum(" final " in line for line in lines) == 2 * len(case.dump["kv"])


def test_a_wrong_step_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    case = load_case(CASES[0])
    assert case is not None
    right = schedulers.clean_of
    monkeypatch.setattr(schedulers, "clean_of", lambda x, velocity, sigma: 1.001 * right(x, velocity, sigma))
    assert compare_video(case) > TOLERANCE


def test_without_the_published_sink_defect_the_numbers_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    case = load_case(CASES[0])
    assert case is not None
    seat = ReferenceRing.seat

    def with_full_sinks_only(ring: ReferenceRing, row: int, position: int, frames: int) -> None:
        seat(ring, row, position, frames)
        ring._threshold = case.dump["args"]["thr"] if position >= ring.window else -1.0

    monkeypatch.setattr(ReferenceRing, "seat", with_full_sinks_only)
    assert max(found.largest for found in differences(case)) > TOLERANCE
