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
from engine.video.through import Through, as_is

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
    through: what functions that policies call in every layer go through.
    """

    def __init__(
        self,
        shape: CacheShape,
        *,
        rows: int,
        device: torch.device,
        dtype: torch.dtype,
        per_layer: bool,
        queries: bool = False,
        through: Through = as_is,
    ) -> None:
        self.shape, self.rows, self.per_layer, self.through = shape, rows, per_layer, through
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
        self.written[:, rows, first:].fill_(EMPTY)
        # A number that is not finite would spoil attention even under a mask.
        self.keys[:, rows, first:].zero_()
        self.values[:, rows, first:].zero_()

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

    def row_numbers(self, rows: tuple[int, int]) -> Tensor:
        """0.. [B, 1] for rows [lo, hi), counted from the first of them: beside slots [B, F] an index."""
        return self._row[: rows[1] - rows[0]]

    def write(self, layer: int, rows: tuple[int, int], slots: Tensor, keys: Tensor, values: Tensor) -> None:
        """Keys and values [B, F, T, H, D] of one layer into slots [B, F] of rows [lo, hi)."""
        low, high = rows
        places = (self.row_numbers(rows), slots)
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


@dataclass(frozen=True, slots=True)
class Seen:
    """Where a layer's frames go and what it attends to: slots [B, F] written; turns by space and time of these frames, and in time
    of the slots read (none where keys are kept turned); mask as `CacheAccess.layer` gives it."""

    slots: Tensor
    turns: Tensor
    window_turns: Tensor | None
    mask: Tensor | None


class CacheAccess:
    """One network call's way through the cache.

    Tensors: `slots` [1 or L, B, F] int64, and `positions` [B, F], the frames' numbers. What follows from them alone is worked out
    once, for all layers.
    """

    def __init__(
        self, key: CallKey, tensors: Mapping[str, Tensor], *, cache: KVCache, policy: CachePolicy, positions: PositionPolicy, rope: Rope
    ) -> None:
        self.key, self.tensors = key, tensors
        self.cache, self._policy, self._positions, self._rope = cache, policy, positions, rope
        self._shared: Seen | None = None
        self._ahead: tuple[Tensor, Tensor, Tensor | None] | None = None

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
        (low, high), (begin, end) = self.key.rows, self.key.reads
        query, key, value = (tensor.unflatten(1, frames) for tensor in (query, key, value))
        if self.cache.queries is not None:
            self.cache.queries[layer, low:high] = self._rope.in_space(query[:, -1:])[:, 0].to(self.cache.queries.dtype)
        key = self._rope.in_both(key, self._turns_ahead()[0]) if self._positions.baked else self._rope.in_space(key)
        seen = self._seen(layer, key, value)
        self.cache.write(layer, self.key.rows, seen.slots, key, value)
        keys, values = self.cache.keys[layer, low:high, begin:end], self.cache.values[layer, low:high, begin:end]
        if seen.window_turns is not None:
            keys = self._rope.in_time(keys, seen.window_turns)
        query = self._rope.in_both(query, seen.turns)
        return query.flatten(1, 2), keys.flatten(1, 2).to(query.dtype), values.flatten(1, 2).to(query.dtype), seen.mask

    def _turns_ahead(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """What is known before any layer has run, if a frame's place is its number: the turns of the call's frames by space and time
        and in time alone, and in time [2, L', B, N, n] of the slots read, as they are before."""
        if self._ahead is None:
            (low, high), (begin, end) = self.key.rows, self.key.reads
            own = self._rope.turns(self.tensors["positions"])
            window = None if self._positions.baked else self._window_turns(self.cache.written[:, low:high, begin:end])
            self._ahead = (self._rope.with_space(own), own, window)
        return self._ahead

    def _window_turns(self, seen: Tensor) -> Tensor:
        """Turns in time of slots [..., B, N] that hold these numbers."""
        # An empty slot stands nowhere, and infinitely many turns are not a number, which no mask would hide.
        return self._rope.turns(self._positions.places(seen).nan_to_num(posinf=0.0))

    def _seen(self, layer: int, key: Tensor, value: Tensor) -> Seen:
        """Worked out once where layers do not differ."""
        if self._shared is not None:
            return self._shared
        (low, high), (begin, end) = self.key.rows, self.key.reads
        slots = self.tensors["slots"][layer if self.tensors["slots"].shape[0] > 1 else 0]
        if self._policy.per_layer:
            slots = self._policy.choose(layer, self.key, slots, key, value)
        written = self.cache.written[layer if self.cache.per_layer else 0, low:high]
        if self._positions.numbered:
            turns, own, window = self._turns_ahead()
            if window is not None:
                window = window[:, layer if self.cache.per_layer else 0]
                window[:, self.cache.row_numbers(self.key.rows), slots - begin if begin else slots] = own
            written.scatter_(1, slots, self.tensors["positions"].to(written.dtype))
        else:
            written.scatter_(1, slots, self.tensors["positions"].to(written.dtype))
            window = self._window_turns(written[:, begin:end])
            own = window[:, self.cache.row_numbers(self.key.rows), slots - begin]
            turns = self._rope.with_space(own)
        mask = None
        if self.key.masked:
            mask = torch.isfinite(written[:, begin:end]).repeat_interleave(self.cache.shape.tokens, dim=1)[:, None, None]
        found = Seen(slots, turns, window, mask)
        if not self.cache.per_layer:
            self._shared = found
        return found
