"""A live stream in simulated time: frames arrive, chunks are made at a machine's pace, a controller or a fixed plan decides how."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from engine.video.slo import ChunkPlan, DeadlineControl, Slo
from engine.video.slo_costs import StageTimes
from engine.video.slo_report import Punctuality, PunctualityMeter
from tools.slo_machines import Machine

SCATTER = 0.04
"""Standard deviation of stage times, as a share of them."""
HICCUP_SHARE, HICCUP = 0.01, 2.5
"""How often a chunk takes longer for no reason, and how many times as long."""


@dataclass(frozen=True, slots=True)
class Made:
    """One finished chunk: when, of which frames (capture times, oldest first), under which plan."""

    finished_at: float
    captured_at: tuple[float, ...]
    plan: ChunkPlan


@dataclass(frozen=True, slots=True)
class Run:
    """What became of a stream. captured: frames that came in; in_flight: of them, those that were being made at the end."""

    made: tuple[Made, ...]
    punctuality: Punctuality
    changes: int
    seconds: float
    captured: int
    in_flight: int

    @property
    def fps(self) -> float:
        """Finished frames a second."""
        return sum(len(chunk.captured_at) for chunk in self.made) / self.seconds


class Input:
    """Frames at a steady rate; who takes a chunk gets the newest that are there, older ones are dropped."""

    def __init__(self, fps: float) -> None:
        self._fps, self._next = fps, 0

    @property
    def captured(self) -> int:
        """Frames taken or dropped so far."""
        return self._next

    def take(self, count: int, now: float) -> tuple[float, tuple[float, ...], int]:
        """(when the chunk is full, capture times, how many frames were dropped for it) for a taker who is free at `now`."""
        newest = max(int(now * self._fps + 1e-9), self._next + count - 1)
        first = newest - count + 1
        dropped, self._next = first - self._next, newest + 1
        return max(now, newest / self._fps), tuple(i / self._fps for i in range(first, newest + 1)), dropped


def simulate(
    machine: Machine,
    slo: Slo,
    *,
    seconds: float,
    slowness: Callable[[float], float],
    control: DeadlineControl | None = None,
    fixed: ChunkPlan | None = None,
    seed: int = 0,
) -> Run:
    """Run for so many simulated seconds. slowness(moment) >= 1: how many times as long everything takes then.

    control decides the plans; without it `fixed` holds throughout. A batch that is given up finishes its frames in flight first.
    """
    rng, source, meter = random.Random(seed), Input(slo.input_fps), PunctualityMeter(0.0)
    plan = control.plan if control is not None else fixed
    if plan is None:
        raise ValueError("a controller or a fixed plan is needed")
    now, made, changes = 0.0, list[Made](), 0
    flying: deque[tuple[float, ...]] = deque()
    while now < seconds:
        now, frames, dropped = source.take(plan.chunk * slo.pictures, now)
        meter.dropped(dropped)
        times = machine.times(plan, slowness(now) * _scatter(rng))
        now += times.encode + plan.calls * times.forward + times.decode
        flying.append(frames)
        following = control.chunk_done(times) if control is not None else plan
        while len(flying) >= (plan.rows if following == plan else 1):
            now += _extra_calls(plan, times, len(flying))
            made.append(Made(finished_at=now, captured_at=flying.popleft(), plan=plan))
            meter.finished(made[-1].captured_at, now, slo.deadline_seconds)
        changes += following != plan
        plan = following
    waiting = sum(len(frames) for frames in flying)
    return Run(tuple(made), meter.report(), changes=changes, seconds=now, captured=source.captured, in_flight=waiting)


def _extra_calls(plan: ChunkPlan, times: StageTimes, flying: int) -> float:
    """Seconds until the oldest chunk in flight is finished: none while the batch is full, one more call and decode otherwise."""
    return 0.0 if flying == plan.rows else times.forward + times.decode


def _scatter(rng: random.Random) -> float:
    return max(0.5, rng.gauss(1.0, SCATTER)) * (HICCUP if rng.random() < HICCUP_SHARE else 1.0)
