"""The moving buffer: frames at rising noise levels are denoised together, and the cleanest leave (StreamDiT, Kodaira et al. 2025).

c frames a partition, K partitions, s micro-steps: N = K s levels. Partition k, counted from the cleanest, is at levels
(K - 1 - k) s ... (K - k) s - 1; after s calls the cleanest partition is finished, leaves, and a new one enters at the top.
Rolling Forcing (Liu et al. 2025) is K partitions with s = 1 and a clean re-run; FIFO-Diffusion (Kim et al. 2024) is c = 1, s = 1.
"""

from __future__ import annotations

from collections import deque

import torch

from engine.video.rollout import Rollout
from engine.video.schedule import clean_of, noised
from engine.video.schedulers import Chunk, rerun


def partitions_of(steps: int, micro_steps: int) -> int:
    """K = N / s. ValueError if the micro-steps s do not divide the N steps."""
    if micro_steps < 1 or steps < 1 or steps % micro_steps:
        raise ValueError(f"{steps} steps cannot be shared evenly by micro-steps of {micro_steps}")
    return steps // micro_steps


class MovingBuffer:
    """Chunks are the partitions. Those in the buffer see each other and the cache, into which only finished ones are written.

    partitions: K. clean_timestep: told with the finished chunk when its keys and values are written. euler: the noise found goes
    on to the next level instead of fresh noise. The rollout needs K c scratch slots. A chunk that comes when the buffer is empty
    at the start of a stream is finished alone.
    """

    def __init__(self, rollout: Rollout, *, partitions: int, clean_timestep: float = 0.0, euler: bool = False) -> None:
        if partitions < 1:
            raise ValueError("a moving buffer has at least one partition")
        self._rollout, self._partitions = rollout, partitions
        self._clean_timestep, self._euler = clean_timestep, euler
        self._buffer: deque[Chunk] = deque()
        self._cold = True

    @property
    def in_flight(self) -> int:
        """Chunks in the buffer."""
        return len(self._buffer)

    def enter(self, chunk: Chunk) -> list[Chunk]:
        """The chunk enters at the top, and the buffer takes its micro-steps."""
        if len(chunk.levels) % self._partitions:
            raise ValueError(f"{len(chunk.levels)} steps cannot be shared evenly by {self._partitions} partitions")
        other = any((c.frames, len(c.levels)) != (chunk.frames, len(chunk.levels)) for c in self._buffer)
        finished = self.flush() if other else []
        if self._cold:
            return finished + self._alone(chunk)
        self._buffer.append(chunk)
        return finished + self._turn()

    def _alone(self, chunk: Chunk) -> list[Chunk]:
        self._cold = False
        self._buffer.append(chunk)
        finished: list[Chunk] = []
        while not finished:
            finished = self._turn()
        return finished

    def _turn(self) -> list[Chunk]:
        """s micro-steps; the oldest leaves if it is clean then."""
        for _ in range(len(self._buffer[0].levels) // self._partitions):
            self._micro_step()
        if not self._buffer[0].finished:
            return []
        return [self._leave(self._buffer.popleft())]

    def _micro_step(self) -> None:
        """One call: every partition takes a step at its own level."""
        chunks, frames = list(self._buffer), self._buffer[0].frames
        x = torch.cat([chunk.latent for chunk in chunks], dim=1)
        timesteps = torch.stack([chunk.levels.timesteps[chunk.step] for chunk in chunks]).repeat_interleave(frames)[None]
        sigmas = torch.stack([chunk.levels.sigmas[chunk.step] for chunk in chunks]).repeat_interleave(frames).view(1, -1, 1, 1, 1)
        velocity = self._rollout.glance(x, timesteps, (chunks[0].prompt,), position=chunks[0].position)
        x0 = clean_of(x, velocity, sigmas)
        for chunk, clean, found in zip(chunks, x0.split(frames, 1), velocity.split(frames, 1), strict=True):
            chunk.step += 1
            if chunk.finished:
                chunk.latent = clean
                continue
            sigma = chunk.levels.sigmas[chunk.step]
            noise = clean + found if self._euler else chunk.noise[chunk.step - 1][None]
            chunk.latent = noised(clean, noise, sigma)

    def _leave(self, chunk: Chunk) -> Chunk:
        self._rollout.admit(0, chunk.frames, chunk.position)
        rerun(self._rollout, chunk, self._clean_timestep)
        self._rollout.remember(chunk.latent)
        return chunk

    def flush(self) -> list[Chunk]:
        """Finish what is in the buffer, which empties from its clean end."""
        finished = []
        while self._buffer:
            finished += self._turn()
        self._cold = True
        return finished

    def reset(self) -> None:
        """Forget what is in the buffer."""
        self._buffer.clear()
        self._cold = True
