"""Noise for frames as the seed parameters ask for it; what was drawn is kept."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor

from engine.control.live_values import Snapshot
from engine.diffusion.noise import seed_of_frame, seeded, travel, travel_seeds

KEPT = 8


class NoiseSource:
    """Noise of a fixed seed, of a seed a frame, or on the way from seed to seed."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._drawn: OrderedDict[tuple[int, ...], Tensor] = OrderedDict()
        self._way = 0.0
        self._way_at = 0.0

    def of_frame(self, values: Snapshot, *, count: int, shape: tuple[int, ...]) -> Tensor:
        """Float32 noise of `shape` [steps, C, h, w] for the `count`-th frame."""
        seed = values.whole("seed")
        way = self._travelled(values)
        match values.text("seed_mode"):
            case "random":
                return self._of_seed(seed_of_frame(seed, count), shape)
            case "travel":
                before, after, share = travel_seeds(seed, way)
                return travel(self._of_seed(before, shape), self._of_seed(after, shape), share)
            case _:
                return self._of_seed(seed, shape)

    def _travelled(self, values: Snapshot) -> float:
        """Seeds passed while travelling; summed up, so that turning the rate changes the speed and not the place."""
        if values.text("seed_mode") == "travel":
            self._way += max(values.seconds - self._way_at, 0.0) * values.number("seed_travel_rate")
        self._way_at = values.seconds
        return self._way

    def _of_seed(self, seed: int, shape: tuple[int, ...]) -> Tensor:
        key = (seed, *shape)
        if key not in self._drawn:
            drawn = seeded(seed, shape)
            self._drawn[key] = (drawn.pin_memory() if self._device.type == "cuda" else drawn).to(self._device, non_blocking=True)
            while len(self._drawn) > KEPT:
                self._drawn.popitem(last=False)
        self._drawn.move_to_end(key)
        return self._drawn[key]
