"""The absolute schedule that output ticks follow. What time it is comes from engine/clock.py."""

from __future__ import annotations

import math


class TickSchedule:
    """Tick k is due at start + k / rate: no drift, and a tick that was missed is skipped, never made up for."""

    def __init__(self) -> None:
        self._rate = 0.0
        self._start = 0.0
        self._tick = -1
        self.late = 0
        """Ticks that had passed before they could be taken."""

    def begin(self, moment: float, rate: float) -> None:
        """Let tick 0 be due at `moment` (seconds), whatever was before."""
        self._start, self._rate, self._tick = moment, rate, -1

    def due(self, now: float, rate: float) -> float:
        """The moment of the next tick, not before `now` (seconds). A new rate (Hz, above 0) counts from the last tick."""
        if rate != self._rate:
            last = self._moment(self._tick)
            fresh = self._rate == 0.0 or now - last > 1.0 / rate
            self._start, self._tick = (now, -1) if fresh else (last, 0)
            self._rate = rate
        return self._moment(self._next(now))

    def take(self, moment: float) -> None:
        """The tick that `due` named as `moment` has come: the one after it is next."""
        tick = round((moment - self._start) * self._rate)
        self.late += tick - self._tick - 1
        self._tick = tick

    def _moment(self, tick: int) -> float:
        return self._start + tick / self._rate if self._rate else self._start

    def _next(self, now: float) -> int:
        """The tick after the last one, or the first that is not past; a microsecond late is not late."""
        return max(self._tick + 1, math.ceil((now - self._start) * self._rate - 1e-6 * self._rate))
