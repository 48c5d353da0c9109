"""The real clock: monotonic seconds, the same in every process of this computer."""

from __future__ import annotations

import time


class MonotonicClock:
    """`time.monotonic`, the clock of every captured_at.

    On Linux and macOS it counts nanoseconds and a sleep ends within about a tenth of a millisecond. On Windows
    `time.monotonic` moves in steps of up to 16 ms before Python 3.13; there the rest of a sleep is measured with
    `time.perf_counter`, so the pace keeps within about a millisecond while times stated are as coarse as the clock.
    """

    def now(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def sleep_until(self, moment: float) -> None:
        """Return at `moment` (monotonic seconds), at once if it has passed. Sleeps, never spins."""
        end = time.perf_counter() + (moment - time.monotonic())
        while (rest := end - time.perf_counter()) > 0.0:
            time.sleep(rest)
