"""The engine's own stream against the published reference's numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.diffusion import stream_batch
from tools.replay_reference import TOLERANCE, compare, load_case, load_model, main

DUMPS = Path(__file__).resolve().parents[2].parent / "shared" / "golden" / "image_stream"
CASES = sorted(path for path in DUMPS.glob("*.pt") if path.name != "weights.pt")

pytestmark = pytest.mark.skipif(not CASES, reason="the reference dumps (shared/golden/image_stream) are not beside the checkout")


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_every_comparable_frame_agrees(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    case = load_case(path)
    assert sum("max |" in line for line in lines) == len(list(case.expected()))
    assert sum("not comparable" in line for line in lines) == case.delay


def test_a_wrong_formula_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    path = DUMPS / "n2_self.pt"
    case = load_case(path)
    right = stream_batch.network_output
    monkeypatch.setattr(stream_batch, "network_output", lambda *asked: 1.01 * right(*asked))
    assert compare(case, load_model(path.with_name("weights.pt"), case)) > TOLERANCE


def test_what_the_reference_does_wrong_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dump = torch.load(DUMPS / "n1_none.pt", weights_only=True)
    dump["cfg"] |= {"cfg_type": "self"}
    torch.save(dump, tmp_path / "n1_self.pt")
    assert main([str(tmp_path / "n1_self.pt"), "--weights", str(DUMPS / "weights.pt")]) == 0
    assert "not comparable: the reference never resets its residual at one step" in capsys.readouterr().out


def test_a_missing_dump_is_one_plain_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.pt")]) == 2
    assert "there is no file" in capsys.readouterr().err
