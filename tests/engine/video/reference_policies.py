"""StreamDiffusionV2's published behaviour, its defects included, as policies: only for comparing with numbers it produced.

What differs from ours: the queue of slots to overwrite is a list a layer and a row that outlives a session; a sink that looks unlike
the new frame is queued even while it is empty; a step may queue it again; keys keep the rotation they were written with when
positions jump back; the first chunk's last step fills every row; rows without a chunk work on zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.video.cache_policies import CachePolicy, Placement
from engine.video.kv_cache import CallKey, KVCache
from engine.video.positions import AbsolutePositions
from engine.video.rollout import Rollout
from engine.video.schedulers import Chunk, StreamBatch, advance


class ReferenceRing(CachePolicy):
    """The ring with its queues. steps: denoising steps, of which only the last moves a queue on if there is one row."""

    per_layer = True

    def __init__(self, *, window: int, sinks: int, threshold: float, steps: int) -> None:
        super().__init__(window=window, sinks=sinks)
        self._threshold, self._steps = threshold, steps
        self.queues: list[list[list[int]]] = []

    def bind(self, cache: KVCache) -> None:
        self._cache = cache
        self.queues = self.queues or [[[] for _ in range(cache.rows)] for _ in range(cache.shape.layers)]
        self._left = [self._steps] * cache.shape.layers
        self._filled = [[0] * cache.rows for _ in range(cache.shape.layers)]
        self._last_end = [[0] * cache.rows for _ in range(cache.shape.layers)]
        self._position: dict[int, int] = {}

    def copy_row(self, source: int, target: int) -> None:
        super().copy_row(source, target)
        for queues, *counts in zip(self.queues, self._filled, self._last_end, strict=True):
            queues[target] = list(queues[source])
            for count in counts:
                count[target] = count[source]

    def place(self, row: int, frames: int) -> Placement:
        """Rows come to the same frames again while they work on zeros: the number decides, not a count."""
        return Placement(tuple(range(frames)))

    def slot_tensor(self, cache: KVCache, row: int, placement: Placement) -> Tensor:
        return torch.zeros((cache.shape.layers, 1, len(placement.slots)), dtype=torch.int64)

    def seat(self, row: int, position: int, frames: int) -> None:
        """Where a chunk goes that starts at `position`, told before it is admitted."""
        self._position[row] = position
        self._taken[row] = max(self.taken(row), min(position + frames, self.window))

    def choose(self, layer: int, key: CallKey, slots: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        low, high = key.rows
        chosen = [self._of_row(layer, row, keys[row - low], values[row - low]) for row in range(low, high)]
        return torch.tensor(chosen)

    def _of_row(self, layer: int, row: int, keys: Tensor, values: Tensor) -> list[int]:
        queue, frames = self.queues[layer][row], keys.shape[0]
        if self.sinks > 0 and self._threshold > -1 and frames == 1:
            means = [cache[layer, row, : self.sinks].mean(1).flatten(1) for cache in (self._cache.keys, self._cache.values)]
            new = [tensor[0].mean(0).flatten()[None] for tensor in (keys, values)]
            alike = sum(torch.cosine_similarity(a, b, dim=-1) for a, b in zip(means, new, strict=True)) / 2
            if alike.min() < self._threshold:
                queue.insert(0, int(alike.argmin()) + 1)
        position_end = self._position[row] + frames
        filled, self._last_end[layer][row], last_end = self._filled[layer][row], position_end, self._last_end[layer][row]
        if position_end <= self.window and filled < self.window:
            following = position_end + frames
            if self.sinks < following <= self.window and (not queue or queue[-1] != following):
                queue.append(following)
            end = self._filled[layer][row] = filled + position_end - last_end
            return list(range(end - frames, end))
        end = queue[0]
        if self._cache.rows == 1 and self._left[layer] > 1:
            self._left[layer] -= 1
        else:
            queue.pop(0)
            if end > self.sinks:
                queue.append(end)
            self._left[layer] = self._steps
        return list(range(end - frames, end))


class StalePositions(AbsolutePositions):
    """Jumps back like ours, but what was written stays as it is."""

    def __init__(self, *, limit: int, restart: int) -> None:
        super().__init__()
        self._limit, self._restart = limit, restart

    def advance(self, frames: int) -> int:
        """The published loop counts on from where it jumped to."""
        if self._next >= self._limit:
            self._next = self._restart
        return super().advance(frames)

    def renumbered(self, written: Tensor, *, sinks: int, shift: int) -> Tensor:
        return written


class ReferenceRollout(Rollout):
    """Tells the ring where a chunk starts."""

    def admit(self, row: int, frames: int, position: int) -> None:
        assert isinstance(self.policy, ReferenceRing)
        self.policy.seat(row, position, frames)
        super().admit(row, frames, position)


class ReferenceStreamBatch(StreamBatch):
    """One row does all steps of the first chunk and is copied; the other rows begin with zeros."""

    def _alone(self, chunk: Chunk) -> list[Chunk]:
        rollout = self._rollout
        rollout.admit(0, chunk.frames, chunk.position)
        while not chunk.finished:
            advance(rollout, [chunk], first_row=0)
        for row in range(1, rollout.rows):
            rollout.copy_row(0, row)
        self._cold = False
        self._zeros_wanted = True
        return [chunk]

    def _call(self) -> list[Chunk]:
        newest = self._flying[0]
        if self._zeros_wanted:
            self._zeros_wanted = False
            for step in range(1, len(newest.levels)):
                zeros = torch.zeros_like(newest.latent)
                self._flying.append(Chunk(zeros, newest.levels, newest.noise, newest.position, newest.prompt, tag=-1, step=step))
        return super()._call()
