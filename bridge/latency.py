"""Latency figures: exact percentiles of a recent window, and close ones of a whole run in bounded memory."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

LEAST_MS = 0.01
MOST_MS = 1e7
GROWTH = 1.01
"""A bin of the whole run's histogram ends this factor above its beginning: percentiles are within half a percent."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Milliseconds below which that share of the samples lies; 0 when there were none."""

    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0


class LatencyRecord:
    """Latencies of shown frames. Written by one thread; figures may be asked for by any other."""

    def __init__(self, window: int = 240) -> None:
        self._recent: deque[float] = deque(maxlen=window)
        self._bins = [0] * (2 + math.ceil(math.log(MOST_MS / LEAST_MS) / math.log(GROWTH)))
        self.count = 0

    def add(self, milliseconds: float) -> None:
        """Take one latency; what lies outside 0.01 ms .. 10 000 s counts as that."""
        held = min(max(milliseconds, LEAST_MS), MOST_MS)
        self._recent.append(held)
        self._bins[math.floor(math.log(held / LEAST_MS) / math.log(GROWTH))] += 1
        self.count += 1

    def recent(self) -> Percentiles:
        """Of the last frames (`window` of them), interpolated linearly between neighbours."""
        ordered = sorted(self._recent.copy())
        return Percentiles(*(_interpolated(ordered, share) for share in (0.50, 0.95, 0.99))) if ordered else Percentiles()

    def whole_run(self) -> Percentiles:
        """Of all frames so far, to within half a percent of a sample that was there."""
        bins = self._bins.copy()
        return Percentiles(*(_of_bins(bins, share) for share in (0.50, 0.95, 0.99)))


def _interpolated(ordered: list[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _of_bins(bins: list[int], share: float) -> float:
    """The middle (geometric) of the bin that holds the sample of that rank."""
    total = sum(bins)
    if total == 0:
        return 0.0
    rank, seen = round(share * (total - 1)), 0
    for place, count in enumerate(bins):
        seen += count
        if seen > rank:
            return float(LEAST_MS * GROWTH ** (place + 0.5))
    return MOST_MS
