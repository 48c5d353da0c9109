"""A rollout: the network, its KV cache and the policies that run it, as one call from noisy to clean latents.

Latents are float32 [B, F, C, h, w]: B rows of the cache, F latent frames of a chunk each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from engine.video.cache_policies import CachePolicy
from engine.video.kv_cache import CacheAccess, CallKey, KVCache
from engine.video.positions import PositionPolicy, Rope

Prompt = object
"""What the network takes as a prompt; the rollout only passes it on."""


class Network(Protocol):
    """A causal video transformer."""

    def __call__(self, x: Tensor, timesteps: Tensor, prompts: Sequence[Prompt], access: CacheAccess) -> Tensor:
        """Velocity eps - x0, float32 [B, F, C, h, w], of x at timesteps [B], or [B, F] where frames differ; a prompt a row."""
        ...


class Rollout:
    """Owns the cache. `admit` says that a chunk comes into a row; `denoise` may then be called for it any number of times.

    scratch: slots in front of the cache's own for frames that are not to stay. history: clean latent frames to remember.
    """

    def __init__(
        self,
        network: Network,
        make_cache: Callable[[int], KVCache],
        *,
        policy: CachePolicy,
        positions: PositionPolicy,
        rope: Rope,
        rows: int = 1,
        scratch: int = 0,
        history: int = 0,
    ) -> None:
        if policy.needs_timeless_keys and positions.baked:
            raise ValueError("this cache policy mixes or moves frames, which absolute positions do not allow; take cache-relative ones")
        if scratch and policy.per_layer:
            raise ValueError("a window of noisy frames in front of the cache does not go with sinks that adapt")
        self._network, self._make_cache = network, make_cache
        self.policy, self.positions, self._rope = policy, positions, rope
        self.scratch = scratch
        self.history: deque[Tensor] = deque(maxlen=history)
        self.set_rows(rows)

    def set_rows(self, rows: int) -> None:
        """A cache of that many rows, empty."""
        self.cache = self._make_cache(rows)
        self.policy.bind(self.cache)
        self.reset()

    @property
    def rows(self) -> int:
        """Rows of the cache."""
        return self.cache.rows

    def reset(self) -> None:
        """Forget every frame; the next chunk is the first."""
        self.cache.clear()
        self.policy.reset(self.cache)
        self.positions.reset()
        self.history.clear()
        self.seen = 0
        self.sinks_replaced = False
        self._placed: dict[int, tuple[Tensor, Tensor]] = {}
        self._next: dict[int, int] = {}
        self._fresh: set[int] = set()

    def admit(self, row: int, frames: int, position: int) -> None:
        """A chunk of `frames`, the first of them numbered `position`, comes into `row` of the cache."""
        expected = self._next.get(row, position)
        if position < expected:
            written = self.cache.written[:, row]
            written[:, self.scratch :] = self.positions.renumbered(
                written[:, self.scratch :], sinks=self.policy.sinks, shift=expected - position
            )
        self._next[row] = position + frames
        placement = self.policy.place(row, frames)
        self.policy.evict(self.cache.behind(self.scratch), row, placement)
        slots = self.policy.slot_tensor(self.cache, row, placement) + self.scratch
        self._placed[row] = (slots, self._numbers(position, frames))
        self._fresh.add(row)

    def _numbers(self, position: int, frames: int) -> Tensor:
        numbers = torch.arange(position, position + frames, dtype=self.cache.written.dtype)
        return numbers[None].to(self.cache.device, non_blocking=True)

    def denoise(self, x: Tensor, timesteps: Tensor, prompts: Sequence[Prompt], *, first_row: int = 0) -> Tensor:
        """Velocity of x [B, F, C, h, w] for rows first_row.. whose chunks were admitted; their keys and values are kept."""
        rows = range(first_row, first_row + x.shape[0])
        reach = [self.policy.reach(row) for row in rows]
        placed = [self._placed[row] for row in rows]
        key = CallKey(
            rows=(rows.start, rows.stop),
            frames=x.shape[1],
            reads=(self.scratch, self.scratch + max(reach)),
            masked=len(set(reach)) > 1 or any(self.policy.gaps(row) for row in rows),
            decides=all(row in self._fresh for row in rows),
        )
        self._fresh.difference_update(rows)
        tensors = {"slots": torch.cat([slots for slots, _ in placed], 1), "positions": torch.cat([numbers for _, numbers in placed])}
        return self._run(x, timesteps, prompts, key, tensors)

    def glance(self, x: Tensor, timesteps: Tensor, prompts: Sequence[Prompt], *, position: int) -> Tensor:
        """Velocity of one row of frames x [1, F, C, h, w] that attend to row 0 and to each other and leave nothing behind."""
        frames = x.shape[1]
        if frames > self.scratch:
            raise ValueError(f"{frames} frames do not fit {self.scratch} scratch slots")
        begin = self.scratch - frames
        key = CallKey((0, 1), frames, (begin, self.scratch + self.policy.reach(0)), self.policy.gaps(0), False)
        slots = torch.arange(begin, self.scratch, device=self.cache.device)[None, None]
        return self._run(x, timesteps, prompts, key, {"slots": slots, "positions": self._numbers(position, frames)})

    def put(self, latents: Tensor, timesteps: Tensor, prompt: Prompt, *, row: int, first_slot: int, position: int) -> None:
        """Write the keys and values of latents [1, F, C, h, w], which attend to each other alone, into slots first_slot..."""
        frames, begin = latents.shape[1], self.scratch + first_slot
        key = CallKey((row, row + 1), frames, (begin, begin + frames), False, False)
        layers = self.cache.shape.layers if self.policy.per_layer else 1
        slots = torch.arange(begin, begin + frames, device=self.cache.device).expand(layers, 1, -1)
        access = self._access(key, {"slots": slots, "positions": self._numbers(position, frames)}, fixed=True)
        self._network(latents, timesteps, (prompt,), access)

    def _run(self, x: Tensor, timesteps: Tensor, prompts: Sequence[Prompt], key: CallKey, tensors: dict[str, Tensor]) -> Tensor:
        return self._network(x, timesteps, prompts, self._access(key, tensors))

    def _access(self, key: CallKey, tensors: dict[str, Tensor], *, fixed: bool = False) -> CacheAccess:
        policy = CachePolicy(window=self.policy.window, sinks=self.policy.sinks) if fixed else self.policy
        return CacheAccess(key, tensors, cache=self.cache, policy=policy, positions=self.positions, rope=self._rope)

    def remember(self, denoised: Tensor) -> None:
        """A finished chunk [1, F, C, h, w], for policies that compute the cache anew."""
        self.seen += denoised.shape[1]
        if self.history.maxlen:
            self.history.extend(denoised.detach().split(1, dim=1))

    def last_number(self) -> int:
        """The number after the newest frame of row 0."""
        return self._next.get(0, 0)

    def copy_row(self, source: int, target: int) -> None:
        """Make a row hold and expect what another does."""
        self.cache.copy_row(source, target)
        self.policy.copy_row(source, target)
        self._next[target] = self._next.get(source, 0)

    def empty_row(self, row: int, *, keep: int, position: int) -> None:
        """Forget a row but its first `keep` slots; the next frame that comes in is numbered `position`."""
        self.cache.clear(row, first=self.scratch + keep)
        self.policy.restart_row(row, taken=keep)
        self._next[row] = position
