"""What the deadline controller does on slower and faster GPUs, in simulated time; prints a table and draws a picture.

Usage: python tools/simulate_slo.py [--deadline SECONDS] [--fps N] [--seconds N] [--steps FEWEST,MOST] [--chunks 1,2,3]
       [--trouble FACTOR] [--machines FILE.json] [--plot FILE.png] [--json FILE.json]

Stage times are measured or of published tables (`slo_machines.py`), or recorded ones; they scatter, with hiccups, and in the second
third of the time everything takes FACTOR times as long, as when another program uses the GPU. The controller is the one of the live
stream. Beside it stands the same stream with the most steps throughout, batched, without a controller.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import cv2
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine.video.slo import Bounds, ChunkPlan, DeadlineControl, Slo
from tools.slo_machines import MACHINES, Machine, read_machines
from tools.slo_plot import draw
from tools.slo_simulation import Run, simulate


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--deadline", type=float, default=1.0, help="seconds from capture to finished")
    parser.add_argument("--fps", type=float, default=16.0, help="frames captured a second")
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--steps", type=numbers, default=(1, 4), help="fewest and most, as 1,4")
    parser.add_argument("--chunks", type=numbers, default=(1, 2), help="latent frames a chunk, as 1,2")
    parser.add_argument("--trouble", type=float, default=1.6, help="times as long in the second third")
    parser.add_argument("--machines", type=Path, help="recorded stage times")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    return parser.parse_args(given)


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def both(machine: Machine, slo: Slo, bounds: Bounds, seconds: float, trouble: tuple[float, float], factor: float) -> tuple[Run, Run]:
    """With the controller and without."""

    def slowness(moment: float) -> float:
        return factor if trouble[0] <= moment < trouble[1] else 1.0

    fixed = ChunkPlan(chunk=min(bounds.chunks), steps=bounds.most_steps, batched=bounds.most_steps > 1)
    controlled = simulate(machine, slo, seconds=seconds, slowness=slowness, control=DeadlineControl(slo, bounds))
    return controlled, simulate(machine, slo, seconds=seconds, slowness=slowness, fixed=fixed)


def table(runs: Sequence[tuple[Machine, Run, Run]]) -> Table:
    mine = ("fps", "p50 s", "p95 s", "late %", "dropped %", "jitter ms", "first s", "changes", "mean steps")
    shown = Table("machine", *mine, "fixed: fps", "late %")
    for machine, run, fixed in runs:
        report = run.punctuality
        captured = report.frames + report.dropped
        steps = sum(chunk.plan.steps for chunk in run.made) / max(len(run.made), 1)
        shown.add_row(
            machine.name, f"{run.fps:.1f}", f"{report.latency_p50:.2f}", f"{report.latency_p95:.2f}", f"{100 * report.missed_share:.1f}",
            f"{100 * report.dropped / max(captured, 1):.1f}", f"{1000 * report.jitter:.0f}", f"{report.first_frame or 0:.2f}",
            str(run.changes), f"{steps:.1f}", f"{fixed.fps:.1f}", f"{100 * fixed.punctuality.missed_share:.1f}",
        )  # fmt: skip
    return shown


def main(given: Sequence[str] | None = None) -> None:
    """See the file's first lines."""
    asked = arguments(given)
    slo = Slo(deadline_seconds=asked.deadline, input_fps=asked.fps)
    bounds = Bounds(chunks=asked.chunks, fewest_steps=asked.steps[0], most_steps=asked.steps[-1])
    machines = MACHINES if asked.machines is None else read_machines(asked.machines)
    trouble = (asked.seconds / 3, 2 * asked.seconds / 3)
    runs = [(machine, *both(machine, slo, bounds, asked.seconds, trouble, asked.trouble)) for machine in machines]
    Console(width=160).print(table(runs))
    if asked.plot is not None:
        cv2.imwrite(str(asked.plot), draw([(machine.name, run) for machine, run, _ in runs], slo, asked.seconds, trouble))
    if asked.json is not None:
        rows = [
            {"machine": asdict(machine), "fps": run.fps, "changes": run.changes, "controlled": asdict(run.punctuality),
             "fixed": {"fps": fixed.fps, **asdict(fixed.punctuality)}}
            for machine, run, fixed in runs
        ]  # fmt: skip
        asked.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
