"""Step schedulers: which denoising step of which chunk a network call runs. Sequential, with a clean re-run, and stream batch.

A window of frames at different noise levels is in moving_buffer.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from engine.video.rollout import Prompt, Rollout
from engine.video.schedule import Levels, clean_of, noised


@dataclass(slots=True, eq=False)
class Chunk:
    """A chunk on its way: latent float32 [1, F, C, h, w] at the level of its next step, with what it entered with.

    levels: its denoising steps. noise: float32 [N - 1, F, C, h, w], fresh noise for every step but the first. position: number of
    its first frame. tag: the caller's own.
    """

    latent: Tensor
    levels: Levels
    noise: Tensor
    position: int
    prompt: Prompt
    tag: int
    step: int = 0

    @property
    def frames(self) -> int:
        """Latent frames."""
        return int(self.latent.shape[1])

    @property
    def finished(self) -> bool:
        """Whether all its steps are done; `latent` is then clean."""
        return self.step >= len(self.levels)


class StepScheduler(Protocol):
    """Takes chunks in, gives clean ones back, oldest first."""

    @property
    def in_flight(self) -> int:
        """Chunks taken in and not given back."""
        ...

    def enter(self, chunk: Chunk) -> list[Chunk]:
        """Take a chunk in; those that are finished now."""
        ...

    def flush(self) -> list[Chunk]:
        """Finish what is in flight."""
        ...

    def reset(self) -> None:
        """Forget what is in flight."""
        ...


def advance(rollout: Rollout, chunks: list[Chunk], *, first_row: int) -> None:
    """One network call: every chunk takes its next step in its own row of the cache."""
    timesteps = torch.stack([chunk.levels.timesteps[chunk.step] for chunk in chunks])
    x = torch.cat([chunk.latent for chunk in chunks])
    take_step(chunks, x, rollout.denoise(x, timesteps, [chunk.prompt for chunk in chunks], first_row=first_row))


def take_step(chunks: Sequence[Chunk], x: Tensor, velocity: Tensor) -> None:
    """Every chunk's latent goes from its row of x to its next level, or is clean after its last step. x, velocity: [B, F, C, h, w]."""
    sigmas = torch.stack([chunk.levels.sigmas[chunk.step] for chunk in chunks])
    x0 = clean_of(x, velocity, sigmas.view(-1, 1, 1, 1, 1))
    for row, chunk in enumerate(chunks):
        chunk.step += 1
        chunk.latent = x0[row : row + 1]
        if not chunk.finished:
            chunk.latent = noised(chunk.latent, chunk.noise[chunk.step - 1][None], chunk.levels.sigmas[chunk.step])


class Sequential:
    """All steps of a chunk one after the other in one row of the cache, which keeps the last step's keys and values: no chunk waits
    for another, and one cache is enough.

    clean_timestep: if given, one more call on the clean chunk rewrites its keys and values at that (almost) noiseless timestep,
    so that later chunks attend to clean frames (CausVid, Yin et al. 2025; Self-Forcing, Huang et al. 2025): N + 1 calls a chunk.
    """

    in_flight = 0

    def __init__(self, rollout: Rollout, *, clean_timestep: float | None = None) -> None:
        self._rollout = rollout
        self._clean_timestep = clean_timestep

    def enter(self, chunk: Chunk) -> list[Chunk]:
        """Finish it at once."""
        self._rollout.admit(0, chunk.frames, chunk.position)
        while not chunk.finished:
            advance(self._rollout, [chunk], first_row=0)
        if self._clean_timestep is not None:
            rerun(self._rollout, chunk, self._clean_timestep)
        self._rollout.remember(chunk.latent)
        return [chunk]

    def flush(self) -> list[Chunk]:
        """Nothing is ever in flight."""
        return []

    def reset(self) -> None:
        """Nothing is remembered here."""


def rerun(rollout: Rollout, chunk: Chunk, timestep: float) -> None:
    """Write the finished chunk's keys and values again, at (almost) no noise."""
    told = torch.full((1,), timestep, device=rollout.cache.device)
    rollout.denoise(chunk.latent, told, [chunk.prompt])


class StreamBatch:
    """Chunks at different steps share a call, step i of N in row i of the cache: every row attends to frames of its own noise level
    (Feng et al. 2025, section 4.1; the stream batch of Kodaira et al. 2023).

    A chunk comes out N - 1 chunks after it went in. The first chunk of a stream, and one that comes when nothing is in flight,
    runs through its rows at once: no row ever works on nothing.
    """

    def __init__(self, rollout: Rollout) -> None:
        self._rollout = rollout
        self._flying: deque[Chunk] = deque()
        self._cold = True

    @property
    def in_flight(self) -> int:
        """Chunks between their first and last step."""
        return len(self._flying)

    def enter(self, chunk: Chunk) -> list[Chunk]:
        """The chunk takes its first step, those in flight their next."""
        if len(chunk.levels) > self._rollout.rows:
            raise ValueError(f"{len(chunk.levels)} steps need as many rows of the cache, which has {self._rollout.rows}")
        changed = any((c.frames, len(c.levels)) != (chunk.frames, len(chunk.levels)) for c in self._flying)
        finished = self.flush() if changed else []
        if self._cold:
            return finished + self._alone(chunk)
        self._flying.appendleft(chunk)
        return finished + self._call()

    def _alone(self, chunk: Chunk) -> list[Chunk]:
        """All steps at once, each in its own row."""
        while not chunk.finished:
            row = chunk.step
            self._rollout.admit(row, chunk.frames, chunk.position)
            advance(self._rollout, [chunk], first_row=row)
        self._cold = False
        self._rollout.remember(chunk.latent)
        return [chunk]

    def _call(self) -> list[Chunk]:
        """Every chunk in flight takes its next step. They stand in neighbouring rows, newest first."""
        chunks = list(self._flying)
        for chunk in chunks:
            self._rollout.admit(chunk.step, chunk.frames, chunk.position)
        advance(self._rollout, chunks, first_row=chunks[0].step)
        return self._taken_out()

    def _taken_out(self) -> list[Chunk]:
        finished = []
        while self._flying and self._flying[-1].finished:
            finished.append(self._flying.pop())
            self._rollout.remember(finished[-1].latent)
        return finished

    def flush(self) -> list[Chunk]:
        """Finish all; the next chunk runs alone, for its picture not to come late."""
        finished = []
        while self._flying:
            finished += self._call()
        self._cold = True
        return finished

    def reset(self) -> None:
        """Forget what is in flight."""
        self._flying.clear()
        self._cold = True
