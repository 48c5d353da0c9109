"""Which slot of the KV cache a new latent frame takes: a ring behind sink frames, and a ring whose sinks adapt.

Policies that remember what they evict are in cache_memory.py; those that compute the cache anew are in recaching.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.video.kv_cache import CallKey, KVCache

NEVER = -2.0
"""A threshold below every cosine similarity."""


@dataclass(frozen=True, slots=True)
class Placement:
    """slots: where a chunk's frames go, in order; evicted: those of them that held a frame which leaves."""

    slots: tuple[int, ...]
    evicted: tuple[int, ...] = ()


class CachePolicy:
    """A ring of `window - sinks` slots behind `sinks` frames that stay: the n-th frame takes slot n while n < W, then
    s + (n - W) mod (W - s) (StreamDiffusionV2, Feng et al. 2025; StreamingLLM's sinks, Xiao et al. 2023).

    window: frames seen by attention, the current chunk's among them. All policies derive from this one. Host numbers are kept a
    row: rows of a stream batch are at different chunks.
    """

    per_layer = False
    """Whether layers choose different slots."""
    wants_queries = False
    """Whether the cache keeps the newest frame's queries."""
    needs_timeless_keys = False
    """Whether frames are mixed or moved, which only keys without time allow."""

    def __init__(self, *, window: int, sinks: int = 0) -> None:
        if not 0 <= sinks < window:
            raise ValueError(f"{sinks} sink frames leave no room in a window of {window}")
        self.window, self.sinks = window, sinks
        self._taken: dict[int, int] = {}

    @property
    def slots(self) -> int:
        """Slots the policy needs."""
        return self.window

    def bind(self, cache: KVCache) -> None:
        """Called once, before the first frame."""

    def reset(self, cache: KVCache) -> None:
        """Forget every row."""
        self._taken.clear()

    def restart_row(self, row: int, *, taken: int) -> None:
        """Go on as if `taken` frames had come into the row, the cache holding the newest of them."""
        self._taken[row] = taken

    def copy_row(self, source: int, target: int) -> None:
        """The target row goes on where the source row is."""
        self._taken[target] = self._taken.get(source, 0)

    def taken(self, row: int) -> int:
        """Frames that have come into a row."""
        return self._taken.get(row, 0)

    def slot_of(self, number: int) -> int:
        """The slot of the `number`-th frame of a row."""
        ring = self.window - self.sinks
        return number if number < self.window else self.sinks + (number - self.window) % ring

    def place(self, row: int, frames: int) -> Placement:
        """Take in a chunk of `frames`; ValueError if they do not fit beside the sinks."""
        if frames > self.window - (self.sinks if self.taken(row) else 0):
            raise ValueError(f"a chunk of {frames} latent frames does not fit a window of {self.window} with {self.sinks} sink frames")
        first = self.taken(row)
        numbers = range(first, first + frames)
        self._taken[row] = first + frames
        slots = tuple(self.slot_of(n) for n in numbers)
        return Placement(slots, tuple(slot for n, slot in zip(numbers, slots, strict=True) if n >= self.window))

    def evict(self, cache: KVCache, row: int, placement: Placement) -> None:
        """Once a chunk, before anything is overwritten."""

    def slot_tensor(self, cache: KVCache, row: int, placement: Placement) -> Tensor:
        """Slots as int64 [1 or L, 1, F] on the device."""
        return torch.tensor([[placement.slots]], dtype=torch.int64).to(cache.device, non_blocking=True)

    def reach(self, row: int) -> int:
        """Slots [0, reach) may hold something in this row."""
        return min(self.taken(row), self.window)

    def gaps(self, row: int) -> bool:
        """Whether some slot below `reach` is empty."""
        return False

    def choose(self, layer: int, key: CallKey, slots: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Slots [B, F] for this layer's new keys and values [B, F, T, H, D]; asked only if `per_layer`."""
        return slots


RingWithSinks = CachePolicy


def looks(keys: Tensor, values: Tensor) -> Tensor:
    """The directions of the means over the tokens of keys and values [..., T, H, D]: float32 [..., 2, H D]."""
    means = torch.stack([tensor.mean(-3, dtype=torch.float32).flatten(-2) for tensor in (keys, values)], dim=-2)
    return torch.nn.functional.normalize(means, dim=-1, eps=1e-8)


def place_of(sinks: Tensor, keys: Tensor, values: Tensor, limit: Tensor, otherwise: Tensor) -> Tensor:
    """The slots [B] of frames with these keys and values [B, 1, T, H, D]: of the sink that resembles them least, if
    (cos of the keys + cos of the values) / 2 lies under the limit [B]. sinks: their `looks` [B, s, 2, W]. otherwise: int64 [B].
    """
    alike = (sinks * looks(keys, values)).sum((-1, -2)) / 2.0
    least, place = alike.min(dim=-1)
    return torch.where(least < limit, place, otherwise)


class AdaptiveSinks(CachePolicy):
    """A sink that no longer resembles the picture is renewed (StreamDiffusionV2, Feng et al. 2025, section 4.2).

    With kbar, vbar the means over a frame's tokens, a_j = (cos(kbar_j, kbar) + cos(vbar_j, vbar)) / 2 for every sink j. If
    min_j a_j < threshold the new frame takes the place of that sink, else the oldest place of the ring. Each layer and each row
    decides for itself, once a chunk, at its first step. Only full windows are compared: an empty sink resembles nothing.
    """

    per_layer = True

    def __init__(self, *, window: int, sinks: int, threshold: float = 0.2) -> None:
        if sinks < 1:
            raise ValueError("adaptive sinks need at least one sink frame")
        super().__init__(window=window, sinks=sinks)
        self.threshold = threshold

    def bind(self, cache: KVCache) -> None:
        """The ring's heads, what was chosen and what the sinks look like, for every layer and row."""
        shape = (cache.shape.layers, cache.rows)
        width = cache.shape.heads * cache.shape.head_dim
        self._head = torch.zeros(shape, dtype=torch.int64, device=cache.device)
        self._chosen = torch.zeros(shape, dtype=torch.int64, device=cache.device)
        self._sink_looks = torch.zeros((*shape, self.sinks, 2, width), device=cache.device)
        self._limit = torch.full((cache.rows,), NEVER, device=cache.device)
        self._place = cache.through(place_of)
        self._used: dict[int, int] = {}

    def reset(self, cache: KVCache) -> None:
        """Forget every row, its ring and its choices too."""
        super().reset(cache)
        self._head.zero_()
        self._chosen.zero_()
        self._used.clear()

    def restart_row(self, row: int, *, taken: int) -> None:
        """The ring starts at its first slot again."""
        super().restart_row(row, taken=taken)
        self._head[:, row].fill_(max(taken - self.window, 0) % (self.window - self.sinks))
        self._used.pop(row, None)

    def copy_row(self, source: int, target: int) -> None:
        """The device's numbers too."""
        super().copy_row(source, target)
        for tensor in (self._head, self._chosen):
            tensor[:, target] = tensor[:, source]
        self._used.pop(target, None)
        if source in self._used:
            self._used[target] = self._used[source]

    def evict(self, cache: KVCache, row: int, placement: Placement) -> None:
        """Move the ring on where its head was used by the chunk before; look at the sinks."""
        ring = self.window - self.sinks
        if row in self._used:
            used = (self._chosen[:, row] >= self.sinks).to(torch.int64) * self._used.pop(row)
            self._head[:, row] = (self._head[:, row] + used) % ring
        full = len(placement.evicted) == len(placement.slots)
        if full:
            self._used[row] = len(placement.slots)
        elif placement.evicted:  # the window fills up within this chunk
            self._head[:, row].fill_(len(placement.evicted) % ring)
        self._limit[row : row + 1].fill_(self.threshold if full and len(placement.slots) == 1 else NEVER)
        self._sink_looks[:, row] = looks(cache.keys[:, row, : self.sinks], cache.values[:, row, : self.sinks])

    def slot_tensor(self, cache: KVCache, row: int, placement: Placement) -> Tensor:
        """The ring's places, which layers may have reached at different times."""
        if row not in self._used:
            return super().slot_tensor(cache, row, placement).expand(cache.shape.layers, -1, -1)
        ahead = torch.arange(len(placement.slots), device=cache.device)
        return (self.sinks + (self._head[:, row, None] + ahead) % (self.window - self.sinks))[:, None]

    def choose(self, layer: int, key: CallKey, slots: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """The sink that resembles the new frame least, if that is little enough."""
        low, high = key.rows
        if key.frames > 1:
            self._chosen[layer, low:high] = slots[:, -1]
            return slots
        if key.decides:
            self._chosen[layer, low:high] = self._place(
                self._sink_looks[layer, low:high], keys, values, self._limit[low:high], slots[:, 0]
            )
        return self._chosen[layer, low:high, None]
