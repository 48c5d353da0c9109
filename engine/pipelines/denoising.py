"""Where chunks are denoised and by what: the contract, and one process with all blocks. Several ranks are in rank_denoising.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from engine.models.video_denoiser import VideoDenoiser
from engine.models.video_policies import VideoPolicies
from engine.pipelines.video_parts import DenoisingKind, cache_policy, context_policy, make_rollout
from engine.video.moving_buffer import MovingBuffer, partitions_of
from engine.video.recaching import ContextPolicy, RecacheOnSwitch, replay
from engine.video.rollout import Prompt, Rollout
from engine.video.schedulers import Sequential, StepScheduler, StreamBatch

CLEAN = 0.0


class Denoising(Protocol):
    """A rollout and its step scheduler, of one kind.

    looks_back: whether the context can be computed anew from clean frames, which `go_on_from` and `switch_prompt` do.
    """

    kind: DenoisingKind
    rollout: Rollout
    scheduler: StepScheduler
    context: ContextPolicy
    looks_back: bool

    def reset(self) -> None:
        """The next chunk is the first."""
        ...

    def go_on_from(self, latents: Iterable[Tensor], prompt: Prompt) -> None:
        """Take the clean frames of another rollout of the same size as context."""
        ...

    def switch_prompt(self, prompt: Prompt) -> None:
        """Compute the context anew under another prompt; nothing may be in flight."""
        ...

    def chunk_entered(self, other_seconds: float) -> None:
        """A chunk went in. other_seconds: what this process does for a chunk beside denoising."""
        ...


class DenoisingSite(Protocol):
    """Where chunks are denoised: in this process, or on several ranks. A new denoising ends the one before."""

    @property
    def device(self) -> torch.device:
        """Of this process."""
        ...

    @property
    def only_scheduler(self) -> str:
        """The step scheduler that runs here whatever is asked for; empty if all do."""
        ...

    def kind(self, wanted: DenoisingKind) -> DenoisingKind:
        """What is made here where that is wanted."""
        ...

    def begin(self, kind: DenoisingKind, first: Callable[[Tensor], Tensor] | None) -> Denoising:
        """What denoises chunks of that kind from now on. first: see context_policy."""
        ...

    def prompt(self, tokens: Tensor) -> Prompt:
        """The text encoder's output [1, L, width] for the denoising of now."""
        ...


class ThisProcess:
    """A DenoisingSite: all blocks on one device."""

    only_scheduler = ""

    def __init__(self, network: VideoDenoiser, policies: VideoPolicies) -> None:
        self.network, self._policies = network, policies

    @property
    def device(self) -> torch.device:
        """Of the weights."""
        return self.network.device

    def kind(self, wanted: DenoisingKind) -> DenoisingKind:
        """As wanted."""
        return wanted

    def begin(self, kind: DenoisingKind, first: Callable[[Tensor], Tensor] | None) -> Denoising:
        """As DenoisingSite.begin. Steps that the model's micro-steps do not divide, as a live change may ask for, take as many at a
        time as divide both."""
        policies = replace(self._policies, micro_steps=math.gcd(self._policies.micro_steps, kind.steps))
        return DenoisingHere(self.network, policies, kind, first=first)

    def prompt(self, tokens: Tensor) -> Prompt:
        """As DenoisingSite.prompt."""
        return self.network.prompt(tokens)


class DenoisingHere:
    """A Denoising in this process. ValueError if a rolling window cannot share its steps evenly by `micro_steps`."""

    looks_back = True

    def __init__(
        self, network: VideoDenoiser, policies: VideoPolicies, kind: DenoisingKind, *, first: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self.kind = kind
        policy = cache_policy(policies)
        self._recache = RecacheOnSwitch(frames=policy.window, block=policies.frames)
        self.context = context_policy(policies, first)
        self._block = min(policies.frames, policy.window - policy.sinks)
        self._partitions = partitions_of(kind.steps, policies.micro_steps) if kind.scheduler == "rolling_window" else kind.steps
        made_for = replace(kind, steps=self._partitions)  # a rolling window holds a chunk a partition
        self.rollout = make_rollout(network, lambda: network, policies, made_for, history=max(policy.window, self.context.history))
        self.scheduler = self._scheduler()

    def _scheduler(self) -> StepScheduler:
        match self.kind.scheduler:
            case "stream_batch":
                return StreamBatch(self.rollout)
            case "rolling_window":
                return MovingBuffer(self.rollout, partitions=self._partitions, clean_timestep=CLEAN)
            case "clean_rerun":
                return Sequential(self.rollout, clean_timestep=CLEAN)
            case _:
                return Sequential(self.rollout)

    def reset(self) -> None:
        """The next chunk is the first."""
        self.scheduler.reset()
        self.rollout.reset()

    def go_on_from(self, latents: Iterable[Tensor], prompt: Prompt) -> None:
        """Take the clean frames of another rollout of the same size as context."""
        replay(self.rollout, latents, prompt, block=self._block)

    def switch_prompt(self, prompt: Prompt) -> None:
        """Compute the context anew under another prompt; nothing may be in flight."""
        self._recache.on_prompt_switch(self.rollout, prompt)

    def chunk_entered(self, other_seconds: float) -> None:
        """Nothing to share out."""
