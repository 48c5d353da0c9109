"""Chunks of a video stream on their way: those that are being encoded and those that are being denoised, oldest first, each with the
moments of its frames. Those that are being decoded are in video_output.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor

from engine.control.live_values import Snapshot
from engine.gpu.timing import StageTimer
from engine.pipelines.chunk_plan import Ready
from engine.pipelines.codec_line import CodecLine
from engine.pipelines.denoising import Denoising
from engine.pipelines.video_entry import Entered
from engine.pipelines.video_input import Gathered
from engine.pipelines.video_output import Flight
from engine.video.schedulers import Chunk
from engine.video.slo_costs import ChunkPlan


@dataclass(frozen=True, slots=True)
class Encoding:
    """A chunk that is being encoded, and what was asked for when it was gathered."""

    gathered: Gathered
    plan: ChunkPlan
    values: Snapshot


class ChunkEncoding:
    """Chunks between their pictures and their latents."""

    def __init__(self, codec: CodecLine, timer: StageTimer) -> None:
        self._codec, self._timer = codec, timer
        self._waiting: deque[Encoding] = deque()

    def reset(self) -> None:
        """Forget them."""
        self._waiting.clear()

    @property
    def flights(self) -> Iterable[Flight]:
        """Of all that are under way."""
        return [chunk.gathered.flight for chunk in self._waiting]

    def begin(self, chunk: Encoding) -> None:
        """The next chunk."""
        with self._timer.stage("encode"):
            self._codec.begin_encode(chunk.gathered.pictures)
        self._waiting.append(chunk)

    def encoded(self, *, ahead: int) -> Iterator[tuple[Encoding, Tensor]]:
        """Chunks with their latents [1, F, C, h, w], until only `ahead` are left at the codec."""
        while len(self._waiting) > ahead:
            yield self._waiting.popleft(), self._codec.encoded()


class ChunkDenoising:
    """Chunks between their entry into the denoising and their clean latents."""

    def __init__(self, timer: StageTimer) -> None:
        self._timer = timer
        self._flights: dict[int, Flight] = {}

    def reset(self) -> None:
        """Forget them; the denoising forgets its own."""
        self._flights.clear()

    @property
    def flights(self) -> Iterable[Flight]:
        """Of all that are under way."""
        return self._flights.values()

    def enter(self, ready: Ready, entered: Entered, flight: Flight, *, number: int) -> Iterator[tuple[Chunk, Flight]]:
        """A chunk goes in; those that are finished now."""
        denoising, told = ready.denoising, ready.prompt
        rollout = denoising.rollout
        self._flights[number] = flight
        with self._timer.stage("denoise"):
            denoising.context.before_chunk(rollout, told)
            position = rollout.positions.advance(int(entered.latent.shape[1]))
            chunk = Chunk(entered.latent, entered.levels, entered.later_noise, position, told, tag=number)
            finished = denoising.scheduler.enter(chunk)
            denoising.context.after_chunk(rollout, told)
        return self._taken_out(finished)

    def flush(self, denoising: Denoising) -> Iterator[tuple[Chunk, Flight]]:
        """Finish all that are in this denoising."""
        return self._taken_out(denoising.scheduler.flush())

    def _taken_out(self, finished: Iterable[Chunk]) -> Iterator[tuple[Chunk, Flight]]:
        for chunk in finished:
            yield chunk, self._flights.pop(chunk.tag)
