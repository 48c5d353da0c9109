"""How a stream keeps its deadline: misses, latency, jitter, time to first frame. Pure: moments come in, there is no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

REMEMBERED = 512
"""Chunks over which percentiles are taken: memory stays constant for hours."""


@dataclass(frozen=True, slots=True)
class Punctuality:
    """In seconds and counts, since the start.

    frames: finished; missed: of them after their deadline; dropped: frames that were captured and never made. latency: of the oldest
    frame of each chunk, over the last chunks; jitter: mean change of that latency from chunk to chunk (the D of RFC 3550).
    """

    frames: int
    missed: int
    dropped: int
    first_frame: float | None
    latency_p50: float
    latency_p95: float
    jitter: float

    @property
    def missed_share(self) -> float:
        """Of the finished frames."""
        return self.missed / self.frames if self.frames else 0.0


class PunctualityMeter:
    """Counts what was shown when."""

    def __init__(self, started_at: float) -> None:
        self._started_at = started_at
        self._frames = self._missed = self._dropped = 0
        self._first: float | None = None
        self._begun = False
        self._latencies: deque[float] = deque(maxlen=REMEMBERED)
        self._changes: deque[float] = deque(maxlen=REMEMBERED)

    def began(self, captured_at: float) -> None:
        """A frame was captured, which is what the time to the first frame counts from if it came after the start."""
        if not self._begun:
            self._begun, self._started_at = True, max(self._started_at, captured_at)

    def finished(self, captured_at: Sequence[float], finished_at: float, deadline_seconds: float) -> None:
        """One chunk's frames, oldest first, at monotonic seconds."""
        if not captured_at:
            return
        self._begun = True
        if self._first is None:
            self._first = finished_at - self._started_at
        self._frames += len(captured_at)
        self._missed += sum(finished_at - captured > deadline_seconds for captured in captured_at)
        latency = finished_at - captured_at[0]
        if self._latencies:
            self._changes.append(abs(latency - self._latencies[-1]))
        self._latencies.append(latency)

    def dropped(self, frames: int) -> None:
        """So many more captured frames were never made."""
        self._dropped += frames

    def report(self) -> Punctuality:
        """What came of it so far."""
        ordered = sorted(self._latencies) or [0.0]
        return Punctuality(
            frames=self._frames,
            missed=self._missed,
            dropped=self._dropped,
            first_frame=self._first,
            latency_p50=ordered[(len(ordered) - 1) // 2],
            latency_p95=ordered[int(0.95 * (len(ordered) - 1))],
            jitter=sum(self._changes) / len(self._changes) if self._changes else 0.0,
        )
