"""Events a second, as people read them: steady while they come, 0 soon after they stop."""

from __future__ import annotations

import collections


class Rate:
    """Events a second over the last second, or over the last two events where they come more slowly."""

    def __init__(self) -> None:
        self._moments: collections.deque[float] = collections.deque()

    def count(self, now: float) -> None:
        """One event at `now`."""
        self._moments.append(now)
        while len(self._moments) > 2 and self._moments[0] < now - 1.0:
            self._moments.popleft()

    def at(self, now: float) -> float:
        """Events a second; 0 once they stayed away for a second and for three times their distance."""
        if len(self._moments) < 2:
            return 0.0
        span = self._moments[-1] - self._moments[0]
        distance = span / (len(self._moments) - 1)
        if distance <= 0.0 or now - self._moments[-1] > max(1.0, 3 * distance):
            return 0.0
        return 1.0 / distance
