"""The KV cache of a causal video transformer: one static tensor for all layers, and one network call's way through it.

A slot holds the T tokens of one latent frame. Which slots a call writes and reads is a handful of numbers on the device, so that
a call over the same `CallKey` can be captured as one graph. A call may be run any number of times: what only happens once a
chunk (eviction, moving memory) happens before it.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from engine.video.positions import EMPTY, PositionPolicy, Rope, exact

if TYPE_CHECKING:
    from engine.video.cache_policies import CachePolicy


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheShape:
    """layers of the transformer (of this rank), slots of one latent frame, tokens a frame, heads and their size."""

    layers: int
    slots: int
    tokens: int
    heads: int
    head_dim: int


_serial = itertools.count()


class KVCache:
    """keys, values: [L, B, S, T, H, D]. written: [L' , B, S], the number of the frame in each slot, EMPTY for none.

    B: one row for each denoising step that keeps its own cache. L': L where slots are chosen layer by layer, else 1.
    queries: [L, B, T, H, D] of the newest frame, only if a policy wants to know what is attended to. serial: no two caches share it.
    """

    def __init__(
        self, shape: CacheShape, *, rows: int, device: torch.device, dtype: torch.dtype, per_layer: bool, queries: bool = False
    ) -> None:
        self.shape, self.rows, self.per_layer = shape, rows, per_layer
        self.serial = next(_serial)
        full = (shape.layers, rows, shape.slots, shape.tokens, shape.heads, shape.head_dim)
        self.keys = torch.zeros(full, device=device, dtype=dtype)
        self.values = torch.zeros(full, device=device, dtype=dtype)
        listed = (shape.layers if per_layer else 1, rows, shape.slots)
        self.written = torch.full(listed, EMPTY, device=device, dtype=exact(device))
        self.queries = torch.zeros((*full[:2], *full[3:]), device=device, dtype=dtype) if queries else None
        self._row = torch.arange(rows, device=device)[:, None]

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self.keys.device

    def clear(self, row: int | None = None, *, first: int = 0) -> None:
        """Empty the slots of a row, or of all, from slot `first` on. What the memory holds does not matter any more."""
        rows = slice(None) if row is None else slice(row, row + 1)
        self.written[:, rows, first:] = EMPTY
        # A number that is not finite would spoil attention even under a mask.
        self.keys[:, rows, first:] = 0.0
        self.values[:, rows, first:] = 0.0

    def behind(self, first: int) -> KVCache:
        """The slots from `first` on, as a cache of their own over the same memory."""
        if first == 0:
            return self
        view = copy.copy(self)
        view.keys, view.values, view.written = self.keys[:, :, first:], self.values[:, :, first:], self.written[:, :, first:]
        return view

    def copy_row(self, source: int, target: int) -> None:
        """Make one row hold what another holds."""
        for tensor in (self.keys, self.values, self.written):
            tensor[:, target] = tensor[:, source]

    def write(self, layer: int, rows: tuple[int, int], slots: Tensor, keys: Tensor, values: Tensor) -> None:
        """Keys and values [B, F, T, H, D] of one layer into slots [B, F] of rows [lo, hi)."""
        low, high = rows
        places = (self._row[: high - low], slots)
        self.keys[layer, low:high].index_put_(places, keys.to(self.keys.dtype))
        self.values[layer, low:high].index_put_(places, values.to(self.values.dtype))


@dataclass(frozen=True, slots=True)
class CallKey:
    """What a call branches on. rows: [lo, hi) of the cache. frames: of each row. reads: slots [begin, end) it attends to.

    masked: some of them are empty in some row. decides: the policy chooses slots in this call (a chunk's first in its row).
    """

    rows: tuple[int, int]
    frames: int
    reads: tuple[int, int]
    masked: bool
    decides: bool


class CacheAccess:
    """One network call's way through the cache.

    Tensors: `slots` [1 or L, B, F] int64, and `positions` [B, F], the frames' numbers.
    """

    def __init__(
        self, key: CallKey, tensors: Mapping[str, Tensor], *, cache: KVCache, policy: CachePolicy, positions: PositionPolicy, rope: Rope
    ) -> None:
        self.key, self.tensors = key, tensors
        self.cache, self._policy, self._positions, self._rope = cache, policy, positions, rope
        self._shared: tuple[Tensor, Tensor, Tensor | None] | None = None

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> CacheAccess:
        """The same call over other tensors."""
        return CacheAccess(
            self.key, tensors, cache=self.cache, policy=self._policy, positions=self._positions, rope=self._rope
        )

    def layer(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Keep key and value [B, F T, H, D] of the call's frames; what to attend with: query, keys [B, N, H, D], values, mask.

        mask: bool [B, 1, 1, N], or None if every token counts. layer: counted among those of the cache.
        """
        frames = (self.key.frames, -1)
        query, key, value = (tensor.unflatten(1, frames) for tensor in (query, key, value))
        query, key = self._rope.in_space(query), self._rope.in_space(key)
        if self.cache.queries is not None:
            low, high = self.key.rows
            self.cache.queries[layer, low:high] = query[:, -1].to(self.cache.queries.dtype)
        if self._positions.baked:
            key = self._rope.in_time(key, self.tensors["positions"])
        slots, places, mask = self._places(layer, key, value)
        self.cache.write(layer, self.key.rows, slots, key, value)
        (low, high), (begin, end) = self.key.rows, self.key.reads
        keys, values = self.cache.keys[layer, low:high, begin:end], self.cache.values[layer, low:high, begin:end]
        if self._positions.baked:
            query = self._rope.in_time(query, self.tensors["positions"])
        else:
            keys = self._rope.in_time(keys, places)
            query = self._rope.in_time(query, places.gather(1, slots - begin))
        return query.flatten(1, 2), keys.flatten(1, 2).to(query.dtype), values.flatten(1, 2).to(query.dtype), mask

    def _places(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Slots [B, F] written, places in time [B, N] of the slots read, mask; worked out once where layers do not differ."""
        if self._shared is not None:
            return self._shared
        (low, high), (begin, end) = self.key.rows, self.key.reads
        slots = self.tensors["slots"][layer if self.tensors["slots"].shape[0] > 1 else 0]
        if self._policy.per_layer:
            slots = self._policy.choose(layer, self.key, slots, key, value)
        written = self.cache.written[layer if self.cache.per_layer else 0, low:high]
        written.scatter_(1, slots, self.tensors["positions"].to(written.dtype))
        seen = written[:, begin:end]
        mask = torch.isfinite(seen).repeat_interleave(self.cache.shape.tokens, dim=1)[:, None, None] if self.key.masked else None
        # An empty slot stands nowhere, and infinitely many turns are not a number, which no mask would hide.
        places = self._positions.places(seen).nan_to_num(posinf=0.0)
        found = (slots, places, mask)
        if not self.cache.per_layer:
            self._shared = found
        return found
