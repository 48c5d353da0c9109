"""Frame-rate independent smoothing (pure)."""

from __future__ import annotations

import math


def approach(value: float, target: float, dt_seconds: float, *, time_constant: float) -> float:
    """Move `value` towards `target`: the distance shrinks by exp(-dt / time_constant), at any frame rate.

    A time constant of 0 jumps. Within a millionth of the target the target itself is returned, so motion ends.
    """
    if time_constant <= 0.0:
        return target
    moved = target + (value - target) * math.exp(-max(dt_seconds, 0.0) / time_constant)
    return target if abs(moved - target) <= 1e-6 * max(1.0, abs(target)) else moved
