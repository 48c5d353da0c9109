"""Chunks denoised by several ranks: the layers of the transformer or the denoising steps shared out, as the video stream uses it.

What rank 0 and the others do for it is in layer_ring.py and step_ranks.py; this file begins and ends it on all of them together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from engine.gpu.ranks import Ranks, Words
from engine.models.video_denoiser import VideoDenoiser
from engine.models.video_policies import VideoPolicies
from engine.pipelines.denoising import Denoising
from engine.pipelines.layer_ring import BlockStage, RingHead, RingRank, serve_ring
from engine.pipelines.rank_prompts import PromptedNetwork, RankPrompts
from engine.pipelines.step_ranks import StepRank, StepsOverRanks, serve_steps
from engine.pipelines.video_parts import DenoisingKind, make_rollout
from engine.video.parallel import split_evenly
from engine.video.phased_batch import PhasedBatch
from engine.video.recaching import ContextPolicy, KeepContext
from engine.video.rollout import Prompt, Rollout
from engine.video.schedulers import StepScheduler

BALANCE_AFTER = 24
"""Chunks after which a new ring is measured for the first time: its kernels are chosen and its times are steady."""
BALANCE_EVERY = 1000
"""Chunks between later measurements; at 16 frames a second about four minutes."""
RING = "layers"

RingMember = TypeVar("RingMember", bound=RingRank)
StepMember = TypeVar("StepMember", bound=StepRank)


@dataclass(frozen=True, eq=False, slots=True)
class Share:
    """What every rank that denoises knows. line: how many they are. transformer: diffusers' WanTransformer3DModel, whole."""

    ranks: Ranks
    transformer: Any
    policies: VideoPolicies
    line: int
    cuda_graph: bool

    def ring(self, member: type[RingMember], kind: DenoisingKind) -> RingMember:
        """This rank's blocks of a layer ring."""
        split = split_evenly(len(self.transformer.blocks), self.line)
        stage = BlockStage(self.transformer, split, self.ranks.rank, (self.transformer.config.in_channels, *kind.size))
        return member(self.ranks, stage, lambda stage: make_rollout(stage, lambda: stage.denoiser, self.policies, kind))

    def steps(self, member: type[StepMember], kind: DenoisingKind) -> StepMember:
        """This rank's denoising steps."""
        denoiser = VideoDenoiser(self.transformer, cuda_graph=self.cuda_graph)
        prompts = RankPrompts(denoiser)
        rollout = make_rollout(PromptedNetwork(denoiser, prompts), lambda: denoiser, self.policies, kind)
        return member(self.ranks, rollout, prompts, steps=kind.steps, line=self.line)


class OverRanks:
    """A Denoising whose context nobody can compute anew, as no rank has both the clean latents and all blocks."""

    looks_back = False

    def __init__(self, kind: DenoisingKind, rollout: Rollout, scheduler: StepScheduler) -> None:
        self.kind, self.rollout, self.scheduler = kind, rollout, scheduler
        self.context: ContextPolicy = KeepContext()

    def go_on_from(self, latents: Iterable[Tensor], prompt: Prompt) -> None:
        """Never asked for, as it does not look back."""
        raise RuntimeError("a context of several ranks cannot be computed anew")

    def switch_prompt(self, prompt: Prompt) -> None:
        """Never asked for, as it does not look back."""
        raise RuntimeError("a context of several ranks cannot be computed anew")


class LayersOverRanks(OverRanks):
    """A layer ring, balanced after BALANCE_AFTER chunks and then every BALANCE_EVERY."""

    def __init__(self, share: Share, kind: DenoisingKind, *, codec_elsewhere: bool) -> None:
        self.head = share.ring(RingHead, kind)
        self._phased = PhasedBatch(self.head.rollout, self.head, phases=share.line)
        self._chunks, self._codec_elsewhere = 0, codec_elsewhere
        super().__init__(kind, self.head.rollout, self._phased)

    def reset(self) -> None:
        """As Denoising.reset."""
        self._phased.reset()
        self.head.reset()

    def chunk_entered(self, other_seconds: float) -> None:
        """As Denoising.chunk_entered; from time to time blocks move to ranks that have less to do."""
        self._chunks += 1
        if self._chunks == BALANCE_AFTER or self._chunks % BALANCE_EVERY == 0:
            self.head.balance(0.0 if self._codec_elsewhere else other_seconds)


class StepsShared(OverRanks):
    """One rank for each share of the denoising steps."""

    def __init__(self, share: Share, kind: DenoisingKind) -> None:
        self.head = share.steps(StepsOverRanks, kind)
        super().__init__(kind, self.head.rollout, self.head)

    def reset(self) -> None:
        """As Denoising.reset."""
        self.head.reset()

    def chunk_entered(self, other_seconds: float) -> None:
        """Steps do not move."""


class SeveralRanks:
    """A DenoisingSite over ranks 0 to line - 1, of which this is rank 0.

    One that needs fewer steps than the denoising of now has runs in it; more, another size or another rank's loss start anew.
    """

    only_scheduler = "stream_batch"

    def __init__(self, share: Share, way: str, *, codec_elsewhere: bool = False) -> None:
        """way: layers or steps."""
        self._share, self._way, self._codec_elsewhere = share, way, codec_elsewhere
        self._current: LayersOverRanks | StepsShared | None = None

    @property
    def device(self) -> torch.device:
        """Of rank 0."""
        return self._share.ranks.device

    def kind(self, wanted: DenoisingKind) -> DenoisingKind:
        """With enough steps for every rank, and for the denoising of now to go on."""
        least = self._share.line if self._way != RING else 1
        known = self._current.kind if self._current is not None and self._current.kind.size == wanted.size else wanted
        return replace(wanted, steps=max(wanted.steps, known.steps, least))

    def begin(self, kind: DenoisingKind, first: Callable[[Tensor], Tensor] | None) -> Denoising:
        """As DenoisingSite.begin; all ranks begin."""
        self._end()
        for rank in range(1, self._share.line):
            self._share.ranks.send(rank, {"do": "begin", "way": self._way, "kind": _as_words(kind)})
        if self._way == RING:
            self._current = LayersOverRanks(self._share, kind, codec_elsewhere=self._codec_elsewhere)
        else:
            self._current = StepsShared(self._share, kind)
        return self._current

    def prompt(self, tokens: Tensor) -> Prompt:
        """As DenoisingSite.prompt."""
        if self._current is None:
            raise RuntimeError("a prompt comes after the denoising it is for has begun")
        return self._current.head.prompt(tokens)

    def close(self) -> None:
        """Every rank's `serve_denoising` returns."""
        self._end()
        for rank in range(1, self._share.line):
            self._share.ranks.send(rank, {"do": "end"})

    def _end(self) -> None:
        current, self._current = self._current, None
        if current is not None:
            current.head.stop()


@torch.inference_mode()
def serve_denoising(share: Share) -> None:
    """The life of a rank that denoises and is not the first: one denoising after the other, until it is told to end."""
    while True:
        words, _ = share.ranks.receive(0)
        if words["do"] == "end":
            return
        kind = _from_words(words["kind"])
        if words["way"] == RING:
            serve_ring(share.ring(RingRank, kind))
        else:
            serve_steps(share.steps(StepRank, kind))


def _as_words(kind: DenoisingKind) -> Words:
    return {"scheduler": kind.scheduler, "steps": kind.steps, "frames": kind.frames, "size": list(kind.size)}


def _from_words(words: Words) -> DenoisingKind:
    height, width = words["size"]
    return DenoisingKind(words["scheduler"], words["steps"], words["frames"], (height, width))
