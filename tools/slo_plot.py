"""Simulated streams as a picture: a line of panels for each machine with frames a second, latency and the plans over the time."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from engine.video.slo import Slo
from tools.slo_simulation import Run

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 420, 170, 40, 40, 22
WINDOW = 2.0
"""Seconds over which frames are counted."""
INK, PALE, LINE, LATE, TROUBLE = (60, 60, 60), (205, 205, 205), (150, 70, 20), (40, 40, 200), (235, 240, 250)


class Panel:
    """One pair of axes: seconds across, a value upwards from 0."""

    def __init__(self, title: str, seconds: float, top: float, trouble: tuple[float, float]) -> None:
        self.picture = np.full((HEIGHT, WIDTH, 3), 255, dtype=np.uint8)
        self._seconds, self._top = seconds, top
        cv2.rectangle(self.picture, self.place(trouble[0], top), self.place(trouble[1], 0), TROUBLE, -1)
        self.level(0, PALE)
        for text, where in ((title, (8, 18)), (f"{top:g}", (4, TOP + 6)), ("0", (4, HEIGHT - BOTTOM))):
            self.words(text, where)
        self.words(f"{seconds:g} s", (WIDTH - 40, HEIGHT - 6))

    def words(self, text: str, where: tuple[int, int]) -> None:
        cv2.putText(self.picture, text, where, cv2.FONT_HERSHEY_SIMPLEX, 0.4, INK, 1, cv2.LINE_AA)

    def place(self, moment: float, value: float) -> tuple[int, int]:
        x = LEFT + (WIDTH - LEFT - 10) * moment / self._seconds
        y = HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * min(value / self._top, 1.05)
        return round(x), round(y)

    def level(self, value: float, colour: tuple[int, int, int]) -> None:
        cv2.line(self.picture, self.place(0, value), self.place(self._seconds, value), colour, 1, cv2.LINE_AA)

    def curve(self, moments: Sequence[float], values: Sequence[float]) -> None:
        points = np.array([self.place(moment, value) for moment, value in zip(moments, values, strict=True)], np.int32)
        cv2.polylines(self.picture, [points], False, LINE, 1, cv2.LINE_AA)

    def dot(self, moment: float, value: float, colour: tuple[int, int, int]) -> None:
        cv2.circle(self.picture, self.place(moment, value), 2, colour, -1, cv2.LINE_AA)


def draw(runs: Sequence[tuple[str, Run]], slo: Slo, seconds: float, trouble: tuple[float, float]) -> np.ndarray:
    """uint8 [H, W, 3]: a line for each run. The shade is the time of trouble; red are late chunks; open dots are batched steps."""
    return np.vstack([np.hstack(_line(name, run, slo, seconds, trouble)) for name, run in runs])


def _line(name: str, run: Run, slo: Slo, seconds: float, trouble: tuple[float, float]) -> list[np.ndarray]:
    report = run.punctuality
    rate = Panel(name, seconds, slo.input_fps * 1.25, trouble)
    rate.words(f"frames a second: {run.fps:.1f} of {slo.input_fps:g}", (8, 34))
    rate.level(slo.input_fps, PALE)
    moments = np.arange(WINDOW, seconds, 0.25)
    finished = np.array([chunk.finished_at for chunk in run.made for _ in chunk.captured_at])
    rate.curve(list(moments), [float(((finished > m - WINDOW) & (finished <= m)).sum()) / WINDOW for m in moments])

    latency = Panel(f"latency of the oldest frame, s: p50 {report.latency_p50:.2f}, p95 {report.latency_p95:.2f}", seconds,
                    1.5 * slo.deadline_seconds, trouble)  # fmt: skip
    latency.words(f"late {100 * report.missed_share:.1f} %, dropped {report.dropped}, jitter {1000 * report.jitter:.0f} ms", (8, 34))
    latency.level(slo.deadline_seconds, LATE)
    steps = Panel("steps (filled: sequential, pale: stream batch)", seconds, 5, trouble)
    steps.words(f"latent frames a chunk above; {run.changes} changes", (8, 34))
    for chunk in run.made:
        seen = chunk.finished_at - chunk.captured_at[0]
        latency.dot(chunk.finished_at, seen / 1.0, LATE if seen > slo.deadline_seconds else LINE)
        steps.dot(chunk.finished_at, chunk.plan.steps, PALE if chunk.plan.batched else LINE)
        if chunk.plan.chunk > 1:
            steps.dot(chunk.finished_at, chunk.plan.steps + 0.4, LATE)
    return [rate.picture, latency.picture, steps.picture]
