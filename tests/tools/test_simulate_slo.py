"""The simulated machines give back the published and the measured rates, and the simulated stream keeps its books."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import cv2
import pytest

from engine.video.slo import Bounds, ChunkPlan, DeadlineControl, Slo
from tools.simulate_slo import main
from tools.slo_machines import MACHINES, Machine, from_fps
from tools.slo_simulation import Input, simulate

ROOT = Path(__file__).resolve().parents[2]


def rate(machine: Machine, steps: int, *, batched: bool) -> float:
    plan = ChunkPlan(chunk=1, steps=steps, batched=batched)
    times = machine.times(plan)
    return 4 / (times.encode + plan.calls * times.forward + times.decode)


def test_the_steps_between_come_out_as_published_though_they_were_not_put_in() -> None:
    """StreamDiffusionV2, one H100, 480x832 and 512x512: the rates at 2 and 3 steps follow from those at 1 and 4 within 3 %."""
    small, large = (next(m for m in MACHINES if m.name == f"H100, 1.3B {size}") for size in ("512x512", "480x832"))
    published = {
        (large, True): (20.47, 17.97, 15.68, 13.95), (large, False): (20.47, 15.50, 12.82, 10.86),
        (small, True): (26.21, 24.02, 21.51, 19.43), (small, False): (26.21, 19.15, 15.14, 12.43),
    }  # fmt: skip
    for (machine, batched), rates in published.items():
        for steps, fps in enumerate(rates, start=1):
            assert rate(machine, steps, batched=batched and steps > 1) == pytest.approx(fps, rel=0.03)


def test_14b_is_as_published_too() -> None:
    large = next(m for m in MACHINES if "14B" in m.name)
    for steps, fps in enumerate((12.68, 8.64, 6.49, 5.28), start=1):
        assert rate(large, steps, batched=steps > 1) == pytest.approx(fps, rel=0.03)


def test_what_was_measured_comes_out_as_it_was_measured() -> None:
    """One H200: the rates that the measured stages alone make, sequentially and in a batch, with both autoencoders."""
    figures = json.loads((ROOT / "docs" / "benchmarks" / "gpu_video_1.3b_480x832.json").read_text(encoding="utf-8"))
    machines = {"tiny": MACHINES[0], "own": MACHINES[1]}
    assert len(figures["rows"]) == 10 and all(machine.name.startswith("H200") for machine in machines.values())
    for row in figures["rows"]:
        stages = row["encode_ms"] + row["calls"] * row["call_ms"] + row["decode_ms"]
        made = rate(machines[row["codec"]], row["steps"], batched=row["scheduler"] == "stream_batch")
        assert made == pytest.approx(4000 / stages, rel=0.03)


def test_who_takes_late_gets_the_newest_frames_and_the_rest_is_counted() -> None:
    source = Input(10)
    assert source.take(2, 0.0) == (pytest.approx(0.1), pytest.approx((0.0, 0.1)), 0)
    moment, frames, dropped = source.take(2, 1.05)
    assert moment == 1.05 and frames == pytest.approx((0.9, 1.0)) and dropped == 7


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
@pytest.mark.parametrize("controlled", [True, False])
def test_every_frame_is_finished_once_in_order_or_dropped(machine: Machine, controlled: bool) -> None:
    slo, bounds = Slo(deadline_seconds=1.0, input_fps=16), Bounds(chunks=(1, 2))
    control = DeadlineControl(slo, bounds) if controlled else None
    run = simulate(machine, slo, seconds=30, slowness=lambda t: 2.0 if 10 < t < 20 else 1.0, control=control, fixed=ChunkPlan(1, 4, True))
    frames = [captured for chunk in run.made for captured in chunk.captured_at]
    assert frames == sorted(set(frames)) and all(chunk.finished_at >= chunk.captured_at[-1] for chunk in run.made)
    assert all(before.finished_at <= after.finished_at for before, after in pairwise(run.made))
    report = run.punctuality
    assert report.frames + report.dropped + run.in_flight == run.captured
    assert report.frames == len(frames)


def test_where_a_machine_has_room_nothing_is_late_or_dropped() -> None:
    slo = Slo(deadline_seconds=1.0, input_fps=16)
    run = simulate(MACHINES[0], slo, seconds=30, slowness=lambda t: 1.0, control=DeadlineControl(slo, Bounds(chunks=(1, 2))))
    assert run.punctuality.missed == run.punctuality.dropped == run.changes == 0
    assert {chunk.plan.steps for chunk in run.made} == {4}


def test_the_controller_is_seldom_late_where_the_fixed_plan_always_is() -> None:
    slo, machine = Slo(deadline_seconds=1.0, input_fps=16), from_fps("H100", "", one=20.47, four_sequential=10.86, four_batched=13.95)
    runs = [
        simulate(machine, slo, seconds=60, slowness=lambda t: 1.0, control=control, fixed=ChunkPlan(1, 4, True))
        for control in (DeadlineControl(slo, Bounds(chunks=(1, 2))), None)
    ]
    assert runs[0].punctuality.missed_share < 0.03 and runs[1].punctuality.missed_share > 0.9
    assert runs[0].fps > 15 and runs[0].punctuality.latency_p95 < 1.0


def test_recorded_times_picture_and_figures(tmp_path: Path) -> None:
    recorded = tmp_path / "machines.json"
    recorded.write_text(json.dumps([asdict(MACHINES[0])]))
    asked = ["--machines", str(recorded), "--seconds", "12", "--plot", str(tmp_path / "a.png"), "--json", str(tmp_path / "a.json")]
    main(asked)
    figures = json.loads((tmp_path / "a.json").read_text())
    assert figures[0]["machine"]["name"] == MACHINES[0].name and figures[0]["controlled"]["missed"] == 0
    picture = cv2.imread(str(tmp_path / "a.png"))
    assert picture is not None and picture.shape == (170, 3 * 420, 3) and picture.std() > 5
    recorded.write_text('[{"name": "x"}]')
    with pytest.raises(ValueError, match="milliseconds"):
        main(asked)
