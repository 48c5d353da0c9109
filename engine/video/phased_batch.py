"""Stream batch over a line of ranks: several independent phases, so that every rank has a call to work on.

Pure: where the calls are computed is behind `Line`. With one phase this is `schedulers.StreamBatch`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from engine.video.rollout import Prompt, Rollout
from engine.video.schedulers import Chunk, take_step

Admission = tuple[int, int, int]
"""(row of the cache, latent frames, number of the first): what `Rollout.admit` takes."""


class Line(Protocol):
    """Computes network calls in the order in which they come."""

    def submit(self, x: Tensor, timesteps: Tensor, prompts: Sequence[Prompt], *, first_row: int, admitted: Sequence[Admission]) -> None:
        """One call, as Rollout.denoise takes it, after the chunks `admitted` came in. Does not wait for it."""
        ...

    def result(self) -> Tensor:
        """Velocity of the oldest call whose result was not taken yet."""
        ...


class LocalLine:
    """The calls computed here, at once."""

    def __init__(self, rollout: Rollout) -> None:
        self._rollout = rollout
        self._done: deque[Tensor] = deque()

    def submit(self, x: Tensor, timesteps: Tensor, prompts: Sequence[Prompt], *, first_row: int, admitted: Sequence[Admission]) -> None:
        """As Line.submit."""
        for row, frames, position in admitted:
            self._rollout.admit(row, frames, position)
        self._done.append(self._rollout.denoise(x, timesteps, prompts, first_row=first_row))

    def result(self) -> Tensor:
        """As Line.result."""
        return self._done.popleft()


class PhasedBatch:
    """Stream batch in W phases (StreamDiffusionV2's ring, Feng et al. 2025): call m holds chunk m at its first step, m - W at its second,
    m - 2 W at its third. So W calls are on their way that do not wait for each other, one chunk comes out a call, and a chunk of N
    steps comes out (N - 1) W + W - 1 calls after it went in.

    Row i of the cache sees every chunk in turn, as in a stream batch: the phases share it, and the pictures are the same.
    rollout: of this rank; only asked for its rows and told what is finished.
    """

    def __init__(self, rollout: Rollout, line: Line, *, phases: int) -> None:
        if phases < 1:
            raise ValueError("a stream batch has at least one phase")
        self._rollout, self._line, self._phases = rollout, line, phases
        self._away: deque[tuple[list[Chunk], Tensor]] = deque()
        self._back: list[Chunk] = []
        self._cold = True

    @property
    def in_flight(self) -> int:
        """Chunks between their first and last step."""
        return sum(len(chunks) for chunks, _ in self._away) + len(self._back)

    def enter(self, chunk: Chunk) -> list[Chunk]:
        """The chunk takes its first step; those that are finished now."""
        if len(chunk.levels) > self._rollout.rows:
            raise ValueError(f"{len(chunk.levels)} steps need as many rows of the cache, which has {self._rollout.rows}")
        flying = [other for chunks, _ in self._away for other in chunks] + self._back
        changed = any((other.frames, len(other.levels)) != (chunk.frames, len(chunk.levels)) for other in flying)
        finished = self.flush() if changed else []
        if self._cold:
            self._cold = False
            return finished + self._through([chunk])
        self._submit([chunk, *self._back])
        return finished + (self._take() if len(self._away) >= self._phases else [])

    def flush(self) -> list[Chunk]:
        """Finish all; the next chunk runs alone, for its picture not to come late."""
        self._cold = True
        return self._through([])

    def reset(self) -> None:
        """Forget what is in flight."""
        while self._away:
            self._away.popleft()
            self._line.result()
        self._back, self._cold = [], True

    def _through(self, chunks: list[Chunk]) -> list[Chunk]:
        """Until nothing is in flight."""
        finished: list[Chunk] = []
        self._back = chunks + self._back
        while self._back or self._away:
            if self._back:
                self._submit(self._back)
            finished += self._take()
        return finished

    def _submit(self, chunks: list[Chunk]) -> None:
        """Every chunk takes its next step. They stand in neighbouring rows, newest first."""
        self._back = []
        x = torch.cat([chunk.latent for chunk in chunks])
        self._line.submit(
            x,
            torch.stack([chunk.levels.timesteps[chunk.step] for chunk in chunks]),
            [chunk.prompt for chunk in chunks],
            first_row=chunks[0].step,
            admitted=[(chunk.step, chunk.frames, chunk.position) for chunk in chunks],
        )
        self._away.append((chunks, x))

    def _take(self) -> list[Chunk]:
        """The oldest call's result: chunks that are finished are given back, the others wait for their next call."""
        chunks, x = self._away.popleft()
        take_step(chunks, x, self._line.result())
        finished = [chunk for chunk in reversed(chunks) if chunk.finished]
        for chunk in finished:
            self._rollout.remember(chunk.latent)
        self._back = [chunk for chunk in chunks if not chunk.finished]
        return finished
