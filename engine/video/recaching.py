"""Policies that compute keys and values anew from clean latents: on a prompt switch, before every chunk, or once for the sinks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from engine.video.rollout import Prompt, Rollout

CLEAN_TIMESTEP = 0.0


class ContextPolicy(Protocol):
    """Looks after the context between chunks. history: clean latent frames that it needs."""

    history: int

    def before_chunk(self, rollout: Rollout, prompt: Prompt) -> None:
        """A chunk is about to come in."""
        ...

    def after_chunk(self, rollout: Rollout, prompt: Prompt) -> None:
        """A chunk is finished and remembered."""
        ...

    def on_prompt_switch(self, rollout: Rollout, prompt: Prompt) -> None:
        """The next chunk has another prompt; nothing is in flight."""
        ...


class KeepContext:
    """Leaves the cache as it is: frames of the old prompt leave it by themselves."""

    history = 0

    def before_chunk(self, rollout: Rollout, prompt: Prompt) -> None:
        """Nothing."""

    def after_chunk(self, rollout: Rollout, prompt: Prompt) -> None:
        """Nothing."""

    def on_prompt_switch(self, rollout: Rollout, prompt: Prompt) -> None:
        """Nothing."""


class RecacheOnSwitch(KeepContext):
    """On a prompt switch the last frames go through the network again, clean, under the new prompt (KV-recache of LongLive,
    Yang et al. 2025): the picture goes on, but nothing in the cache speaks for the old prompt.

    frames: how many at most. block: latent frames in one call; blocks attend to those before them, which is a block-causal mask.
    keep_sinks: the sink frames stay as they are.
    """

    def __init__(self, *, frames: int, block: int = 1, keep_sinks: bool = True) -> None:
        if frames < 1 or block < 1:
            raise ValueError("recaching needs at least one frame and blocks of at least one")
        self.history, self._block, self._keep_sinks = frames, block, keep_sinks

    def on_prompt_switch(self, rollout: Rollout, prompt: Prompt) -> None:
        """The formula of the class, for every row of the cache."""
        keep = min(rollout.policy.sinks, rollout.policy.taken(0)) if self._keep_sinks else 0
        latents = list(rollout.history)[max(0, keep - rollout.seen + len(rollout.history)) :]
        recompute(rollout, latents[-self.history :], prompt, keep=keep, block=self._block)


class RecomputeLast(KeepContext):
    """Before every chunk the context is the last k clean frames, computed anew (Krea Realtime, 2025): errors cannot add up in the
    cache, at the price of one more call a chunk.

    first: what the oldest of them becomes before; the latent of a lone picture if it is to be a legal first frame.
    """

    def __init__(self, *, frames: int, first: Callable[[Tensor], Tensor] | None = None) -> None:
        if frames < 1:
            raise ValueError("a context of the last frames needs at least one")
        self.history, self._first = frames, first

    def before_chunk(self, rollout: Rollout, prompt: Prompt) -> None:
        """Fill the rows with what is remembered."""
        latents = list(rollout.history)[-self.history :]
        if not latents:
            return
        if self._first is not None and rollout.seen > len(latents):
            latents[0] = self._first(latents[0])
        recompute(rollout, latents, prompt, keep=0, block=len(latents))


class RollingSinkFrame(KeepContext):
    """After the first chunk the sinks become the first generated frames (Live Avatar's rolling sink frame, 2025). With cache-relative
    positions their distance to the current chunk stays what it is.
    """

    def __init__(self, *, frames: int) -> None:
        if frames < 1:
            raise ValueError("sinks need at least one frame")
        self.history = frames

    def after_chunk(self, rollout: Rollout, prompt: Prompt) -> None:
        """Once a stream: write the first frames' clean keys and values into the sinks."""
        frames = rollout.policy.sinks
        before = rollout.seen - len(rollout.history)
        if rollout.sinks_replaced or before > 0 or rollout.seen < frames:
            return
        rollout.sinks_replaced = True
        latents = torch.cat(list(rollout.history)[:frames], dim=1)
        told = torch.full((1,), CLEAN_TIMESTEP, device=latents.device)
        start = rollout.last_number() - rollout.policy.taken(0)
        for row in range(rollout.rows):
            rollout.put(latents, told, prompt, row=row, first_slot=0, position=start)


def recompute(rollout: Rollout, latents: Sequence[Tensor], prompt: Prompt, *, keep: int, block: int) -> None:
    """Empty the rows but their first `keep` slots and fill them with clean latents [1, 1, C, h, w], oldest first, numbered as the
    newest frames of the stream."""
    room = rollout.policy.window - keep
    latents = list(latents)[-room:]
    end = rollout.last_number()
    rollout.empty_row(0, keep=keep, position=end - len(latents))
    told = None
    for start in range(0, len(latents), block):
        x = torch.cat(list(latents[start : start + block]), dim=1)
        told = torch.full((1,), CLEAN_TIMESTEP, device=x.device) if told is None else told
        rollout.admit(0, x.shape[1], end - len(latents) + start)
        rollout.denoise(x, told, (prompt,))
    for row in range(1, rollout.rows):
        rollout.copy_row(0, row)


def replay(rollout: Rollout, latents: Iterable[Tensor], prompt: Prompt, *, block: int) -> None:
    """Begin a new rollout with clean latents [1, 1, C, h, w] of another as its first frames, so that the picture goes on."""
    latents = list(latents)[-rollout.policy.window :]
    for start in range(0, len(latents), block):
        x = torch.cat(latents[start : start + block], dim=1)
        rollout.admit(0, x.shape[1], rollout.positions.advance(x.shape[1]))
        rollout.denoise(x, torch.full((1,), CLEAN_TIMESTEP, device=x.device), (prompt,))
        rollout.remember(x)
    for row in range(1, rollout.rows):
        rollout.copy_row(0, row)
