"""Denoising steps over several ranks: each rank has the whole transformer and always runs the same steps of every chunk.

Timestep-forcing pipeline parallelism (Live Avatar, Huang et al. 2025, "TPP"): only latents travel, each rank keeps a KV cache at its own
noise levels, and a chunk comes out for every step's time. Only rank 0 learns of clean latents, so policies that look back at them do not
go over ranks.
"""

from __future__ import annotations

from collections import deque

from torch import Tensor

from engine.gpu.ranks import Ranks, Words
from engine.pipelines.rank_prompts import RankPrompt, RankPrompts
from engine.video.parallel import split_evenly
from engine.video.rollout import Rollout
from engine.video.schedule import Levels
from engine.video.schedulers import Chunk, advance


class StepRank:
    """What every rank of the line does alike: its steps of a chunk, each in its own row of the cache."""

    def __init__(self, ranks: Ranks, rollout: Rollout, prompts: RankPrompts, *, steps: int, line: int) -> None:
        """steps: the most of a chunk; line: how many ranks share them, from rank 0 on. rollout: over a PromptedNetwork; it gets as
        many rows as this rank has steps.
        """
        self.ranks, self.rollout, self.prompts, self.line = ranks, rollout, prompts, line
        self._first, self._last = split_evenly(steps, line)[ranks.rank]
        self.steps = steps
        rollout.set_rows(self._last - self._first)

    @property
    def last(self) -> bool:
        """Whether finished chunks leave this rank."""
        return self.ranks.rank == self.line - 1

    def work_on(self, chunk: Chunk) -> None:
        """This rank's steps, as far as the chunk has so many."""
        while not chunk.finished and self._first <= chunk.step < self._last:
            row = chunk.step - self._first
            self.rollout.admit(row, chunk.frames, chunk.position)
            advance(self.rollout, [chunk], first_row=row)

    def pass_on(self, words: Words, tensors: tuple[Tensor, ...] = ()) -> None:
        """To the next rank of the line, if there is one."""
        if not self.last:
            self.ranks.send(self.ranks.rank + 1, words, tensors)


class StepsOverRanks(StepRank):
    """Rank 0: a StepScheduler (engine.video.schedulers) that takes chunks in and gets them back from the last rank.

    A chunk comes out as many chunks after it went in as there are further ranks; the first one, and one that comes when nothing is
    in flight after a flush, at once.
    """

    def __init__(self, ranks: Ranks, rollout: Rollout, prompts: RankPrompts, *, steps: int, line: int) -> None:
        super().__init__(ranks, rollout, prompts, steps=steps, line=line)
        self._away: deque[Chunk] = deque()
        self._cold = True
        self._prompts = 0

    @property
    def in_flight(self) -> int:
        """Chunks on their way."""
        return len(self._away)

    def prompt(self, tokens: Tensor) -> RankPrompt:
        """The text encoder's output [1, L, width], told to every rank once."""
        self._prompts += 1
        self.pass_on({"do": "prompt", "number": self._prompts}, (tokens,))
        return self.prompts.keep(self._prompts, tokens)

    def enter(self, chunk: Chunk) -> list[Chunk]:
        """This rank's steps of it; chunks that are finished now."""
        if len(chunk.levels) > self.steps:
            raise ValueError(f"{len(chunk.levels)} steps are more than the {self.steps} that the ranks share")
        self.work_on(chunk)
        self._away.append(chunk)
        self.pass_on(*_message(chunk))
        finished = self._take(0 if self._cold else self.line - 1)
        self._cold = False
        return finished

    def flush(self) -> list[Chunk]:
        """Finish what is in flight."""
        self._cold = True
        return self._take(0)

    def reset(self) -> None:
        """Every rank forgets every frame; what is in flight is dropped."""
        self._take(0)
        self._cold = True
        self.rollout.reset()
        self.pass_on({"do": "reset"})

    def stop(self) -> None:
        """Every rank's `serve_steps` returns."""
        self._take(0)
        self.pass_on({"do": "stop"})

    def _take(self, leave: int) -> list[Chunk]:
        """Finished chunks, until only `leave` are on their way."""
        finished = []
        while len(self._away) > leave:
            chunk = self._away.popleft()
            if not self.last:
                (chunk.latent,) = self.ranks.receive(self.line - 1)[1]
                chunk.step = len(chunk.levels)
            self.rollout.remember(chunk.latent)
            finished.append(chunk)
        return finished


def serve_steps(member: StepRank) -> None:
    """The life of a rank that is not the first, until it is told to stop."""
    ranks = member.ranks
    while True:
        words, tensors = ranks.receive(ranks.rank - 1)
        match words["do"]:
            case "chunk":
                chunk = _chunk(words, tensors)
                member.work_on(chunk)
                if member.last:
                    ranks.send(0, {}, (chunk.latent,))
                member.pass_on(*_message(chunk))
            case "prompt":
                member.prompts.keep(words["number"], tensors[0])
                member.pass_on(words, tuple(tensors))
            case "reset":
                member.rollout.reset()
                member.pass_on(words)
            case "stop":
                member.pass_on(words)
                return


def _message(chunk: Chunk) -> tuple[Words, tuple[Tensor, ...]]:
    assert isinstance(chunk.prompt, RankPrompt), "prompts of several ranks are what `prompt` gives"
    words = {"do": "chunk", "position": chunk.position, "tag": chunk.tag, "step": chunk.step, "prompt": chunk.prompt.number}
    return words, (chunk.latent, chunk.levels.timesteps, chunk.levels.sigmas, chunk.noise)


def _chunk(words: Words, tensors: list[Tensor]) -> Chunk:
    latent, timesteps, sigmas, noise = tensors
    return Chunk(latent, Levels(timesteps, sigmas), noise, words["position"], RankPrompt(words["prompt"]), words["tag"], words["step"])
