"""Noise from seeds: fixed, new for each frame, or travelling from seed to seed with its variance kept."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LARGEST_SEED = 2**31 - 1


def seeded(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise of a seed, float32 on the CPU: the same on every device."""
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed), dtype=torch.float32)


def seed_of_frame(seed: int, count: int) -> int:
    """The seed of the `count`-th frame when each frame has its own: spread far apart, the same every time."""
    return (seed * 1_000_003 + count * 7_919 + 1) % (LARGEST_SEED + 1)


def travel(start: Tensor, end: Tensor, share: float) -> Tensor:
    """Between two independent noises on the circle: cos and sin of a quarter turn keep mean 0 and variance 1."""
    angle = 0.5 * math.pi * min(max(share, 0.0), 1.0)
    return math.cos(angle) * start + math.sin(angle) * end


def travel_seeds(seed: int, position: float) -> tuple[int, int, float]:
    """(seed before, seed after, share of the way) at `position` seeds from the start; wraps at the largest seed."""
    whole = math.floor(position)
    count = LARGEST_SEED + 1
    return (seed + whole) % count, (seed + whole + 1) % count, position - whole
