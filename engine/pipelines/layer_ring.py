"""One transformer over several ranks: every rank owns some blocks with their share of the KV cache, and calls go round.

Rank 0 embeds, holds the chunks and gets the velocity back from the last rank, which runs the head. Each rank replays what comes into
the cache on its own rollout, so only activations travel. Every rank has all weights, so a block that moves takes its keys and
values along and nothing else. What computes the cache anew from clean latents (recaching, recomputed context) needs all blocks in one place
and does not go over a ring.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from engine.gpu.ranks import Ranks, Words
from engine.gpu.timing import StageTimer
from engine.models.video_denoiser import VideoDenoiser, joined_prompts
from engine.pipelines.rank_prompts import RankPrompt, RankPrompts
from engine.pipelines.ring_cache import layers_of, put_layers
from engine.video.kv_cache import CacheAccess
from engine.video.parallel import Split, moves, rebalanced
from engine.video.phased_batch import Admission
from engine.video.rollout import Prompt, Rollout


class BlockStage:
    """An engine.video.rollout.Network for some of the blocks. A rank that is not first takes tokens [B, F, T, width] for x, one that
    is not last gives them.
    """

    def __init__(self, model: Any, split: Split, rank: int, latent_size: tuple[int, int, int]) -> None:
        """latent_size: (C, h, w)."""
        self._model, self._rank, self._latent_size = model, rank, latent_size
        self.split = split
        self.denoiser = VideoDenoiser(model, blocks=split[rank])
        self.prompts = RankPrompts(self.denoiser)
        self._timer = StageTimer(self.denoiser.device)

    def take(self, split: Split) -> None:
        """Run these blocks from now on."""
        self.split = split
        self.denoiser = VideoDenoiser(self._model, blocks=split[self._rank])
        self.prompts.work_for(self.denoiser)
        self._timer = StageTimer(self.denoiser.device)

    @property
    def first(self) -> bool:
        """Whether x is a latent."""
        return self._rank == 0

    @property
    def last(self) -> bool:
        """Whether the velocity comes out."""
        return self._rank == len(self.split) - 1

    def block_seconds(self) -> float:
        """Of a recent call, smoothed."""
        return self._timer.milliseconds().get("blocks", 0.0) / 1000.0

    @torch.inference_mode()
    def __call__(self, x: Tensor, timesteps: Tensor, prompts: Sequence[Prompt], access: CacheAccess) -> Tensor:
        """As Network, but for what x and the result are."""
        hidden = self.denoiser.embed(x) if self.first else x.flatten(1, 2)
        times, modulation = self.denoiser.time(timesteps, access.cache.shape.tokens)
        with self._timer.stage("blocks"):
            hidden = self.denoiser.through_blocks(hidden, modulation, joined_prompts(self.prompts.of(prompts)), access)
        if not self.last:
            tokens: Tensor = hidden.unflatten(1, (x.shape[1], -1))
            return tokens
        return self.denoiser.head(hidden, times, x.new_empty((*x.shape[:2], *self._latent_size), device="meta"))


class RingRank:
    """What every rank of the ring does alike: its stage, its rollout, and blocks that move."""

    def __init__(self, ranks: Ranks, stage: BlockStage, make_rollout: Callable[[BlockStage], Rollout]) -> None:
        """make_rollout: the same policies on every rank, over `stage.denoiser`'s blocks."""
        self.ranks, self.stage = ranks, stage
        self.rollout = make_rollout(stage)

    def call(self, words: Words, x: Tensor, timesteps: Tensor) -> Tensor:
        """What comes in, comes in; then this rank's blocks."""
        for row, frames, position in words["admitted"]:
            self.rollout.admit(row, frames, position)
        prompts = [RankPrompt(number) for number in words["prompts"]]
        return self.rollout.denoise(x, timesteps, prompts, first_row=words["first_row"])

    def pass_on(self, words: Words, tensors: Sequence[Tensor] = ()) -> None:
        """To the next rank of the line, if there is one."""
        if not self.stage.last:
            self.ranks.send(self.ranks.rank + 1, words, tensors)

    def move_blocks(self, split: Split) -> None:
        """The new split on this rank; keys and values of blocks that leave go to their new rank. All ranks do this at once."""
        before = self.stage.split
        first, last = before[self.ranks.rank]
        layers = dict(zip(range(first, last), layers_of(self.rollout), strict=True))
        for move in moves(before, split):
            if move.source == self.ranks.rank:
                names, tensors = zip(*layers.pop(move.block).items(), strict=True)
                self.ranks.send(move.target, {"names": names}, tensors)
            elif move.target == self.ranks.rank:
                words, received = self.ranks.receive(move.source)
                layers[move.block] = dict(zip(words["names"], received, strict=True))
        self.ranks.settle()
        self.stage.take(split)
        put_layers(self.rollout, [layers[block] for block in range(*split[self.ranks.rank])])


class RingHead(RingRank):
    """Rank 0: an engine.video.phased_batch.Line over all ranks."""

    def __init__(self, ranks: Ranks, stage: BlockStage, make_rollout: Callable[[BlockStage], Rollout]) -> None:
        super().__init__(ranks, stage, make_rollout)
        self._ready: deque[Tensor] = deque()
        self._away = 0
        self._prompts = 0

    def prompt(self, tokens: Tensor) -> RankPrompt:
        """The text encoder's output [1, L, width], told to every rank once."""
        self._prompts += 1
        self.pass_on({"do": "prompt", "number": self._prompts}, [tokens])
        return self.stage.prompts.keep(self._prompts, tokens)

    def submit(self, x: Tensor, timesteps: Tensor, prompts: Sequence[Prompt], *, first_row: int, admitted: Sequence[Admission]) -> None:
        """As Line.submit. Prompts are RankPrompts."""
        numbers = [prompt.number for prompt in prompts if isinstance(prompt, RankPrompt)]
        words = {"do": "call", "first_row": first_row, "admitted": list(admitted), "prompts": numbers}
        out = self.call(words, x, timesteps)
        self._away += 1
        self.pass_on(words, [out, timesteps])
        if self.stage.last:
            self._ready.append(out)

    def result(self) -> Tensor:
        """As Line.result."""
        if not self._ready:
            self._collect()
        self._away -= 1
        return self._ready.popleft()

    def _collect(self) -> None:
        self._ready.append(self.ranks.receive(len(self.stage.split) - 1)[1][0])

    def _collect_all(self) -> None:
        while len(self._ready) < self._away:
            self._collect()

    def reset(self) -> None:
        """Every rank forgets every frame. Whose results are outstanding is the scheduler's business."""
        self.rollout.reset()
        self.pass_on({"do": "reset"})

    def balance(self, other_seconds: float = 0.0) -> Split:
        """Measure all ranks, and move blocks until they take as long. other_seconds: what rank 0 does for each call beside its blocks."""
        self._collect_all()
        self.pass_on({"do": "measure", "blocks": [self.stage.block_seconds()]})
        blocks = [self.stage.block_seconds()]
        if not self.stage.last:
            blocks = self.ranks.receive(len(self.stage.split) - 1)[0]["blocks"]
        self.share_out(rebalanced(self.stage.split, blocks, [blocks[0] + other_seconds, *blocks[1:]]))
        return self.stage.split

    def share_out(self, split: Split) -> None:
        """Other blocks for every rank, now."""
        if split != self.stage.split:
            self._collect_all()
            self.pass_on({"do": "split", "split": [list(part) for part in split]})
            self.move_blocks(split)

    def stop(self) -> None:
        """Every rank's `serve_ring` returns."""
        self._collect_all()
        self.pass_on({"do": "stop"})


def serve_ring(member: RingRank) -> None:
    """The life of a rank that is not the first, until it is told to stop."""
    ranks, stage = member.ranks, member.stage
    while True:
        words, tensors = ranks.receive(ranks.rank - 1)
        match words["do"]:
            case "call":
                x, timesteps = tensors
                out = member.call(words, x, timesteps)
                if stage.last:
                    ranks.send(0, {}, [out])
                member.pass_on(words, [out, timesteps])
            case "prompt":
                stage.prompts.keep(words["number"], tensors[0])
                member.pass_on(words, tensors)
            case "reset":
                member.rollout.reset()
                member.pass_on(words)
            case "measure":
                words["blocks"].append(stage.block_seconds())
                if stage.last:
                    ranks.send(0, words)
                member.pass_on(words)
            case "split":
                member.pass_on(words)
                member.move_blocks(tuple((first, last) for first, last in words["split"]))
            case "stop":
                member.pass_on(words)
                return
