"""The last part of a video stream: finished latents to pictures, pictures to the host, and out in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.control.live_values import Snapshot
from engine.frames import Frame, PixelFormat
from engine.gpu.timing import StageTimer
from engine.gpu.transfer import Download, Transfer
from engine.images.blend import mix
from engine.images.pixel_formats import to_bgra
from engine.images.resize import fit
from engine.pipelines.codec_line import CodecLine

FILLER = -1
"""Index of a picture that only fills a chunk up and is never shown."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When a picture is of. captured_at: monotonic seconds. index: of its frame, or FILLER."""

    captured_at: float
    index: int


@dataclass(frozen=True, slots=True)
class Flight:
    """A chunk between entry and picture: its pictures' moments, and the input [1, T, 3, H, W] if there was one."""

    moments: tuple[Moment, ...]
    dry: Tensor | None


def to_be_shown(chunks: Iterable[Sequence[Moment]]) -> int:
    """Pictures in these chunks, without those that only fill them up."""
    return sum(moment.index != FILLER for moments in chunks for moment in moments)


@dataclass(frozen=True, slots=True)
class _Decoding:
    latent: Tensor
    flight: Flight
    values: Snapshot
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Arriving:
    moments: tuple[Moment, ...]
    download: Download


class ChunkOutput:
    """Decodes chunks and hands their pictures out.

    output_size: (width, height) of pictures, None for the model's. remembered: decoded pictures to keep, one a latent frame.
    shown: told the capture times of a chunk's frames when they are on the host.
    """

    def __init__(
        self,
        codec: CodecLine,
        transfer: Transfer,
        timer: StageTimer,
        *,
        output_size: tuple[int, int] | None,
        remembered: int,
        shown: Callable[[Sequence[float]], None],
    ) -> None:
        self._codec, self._transfer, self._timer = codec, transfer, timer
        self._output_size, self._told = output_size, shown
        self._decoding: deque[_Decoding] = deque()
        self._arriving: deque[_Arriving] = deque()
        self.latest: deque[Tensor] = deque(maxlen=max(1, remembered))
        """The last decoded picture [1, 1, 3, H, W] of each of the newest latent frames."""
        self.any = False
        """Whether anything was decoded since the start."""
        self.lost = False
        """Whether a picture was left out because it was no numbers; whoever tells it takes it back."""

    def reset(self) -> None:
        """Forget what is on its way."""
        self._decoding.clear()
        self._arriving.clear()
        self.latest.clear()
        self.any = False

    @property
    def arriving(self) -> bool:
        """Whether pictures are on their way to the host."""
        return bool(self._arriving)

    @property
    def frames_arriving(self) -> int:
        """How many of them are to be shown, with those that are still being decoded."""
        return to_be_shown([*(chunk.moments for chunk in self._arriving), *(chunk.flight.moments for chunk in self._decoding)])

    def decode(self, latent: Tensor, flight: Flight, values: Snapshot, *, size: tuple[int, int], behind: int = 0) -> None:
        """Decode a finished latent [1, F, C, h, w] and send its pictures on their way; `behind` chunks may still be at the codec."""
        self._decoding.append(_Decoding(latent, flight, values, size))
        with self._timer.stage("decode"):
            self._codec.begin_decode(latent)
            pictures = self._decoded(behind)
        self.any = True
        for chunk, decoded in pictures:
            self._send(chunk, decoded)

    def finish_decoding(self) -> None:
        """Wait for the codec; everything decoded is on its way then."""
        for chunk, decoded in self._decoded(0):
            self._send(chunk, decoded)

    def _decoded(self, behind: int) -> list[tuple[_Decoding, Tensor]]:
        ready = []
        while len(self._decoding) > behind:
            ready.append((self._decoding.popleft(), self._codec.decoded()))
        return ready

    def _send(self, chunk: _Decoding, pictures: Tensor) -> None:
        latent, flight, values = chunk.latent, chunk.flight, chunk.values
        # A decoder that has run already gives more pictures than the encoder's very first chunk took.
        pictures = pictures[:, -len(flight.moments) :]
        ends = [max(0, pictures.shape[1] - 1 - place * self._codec.pictures_per_latent) for place in range(latent.shape[1])]
        self.latest.extend(pictures[:, end : end + 1] for end in reversed(ends))
        sound = (torch.isfinite(pictures).flatten(2).all(2) & torch.isfinite(latent).all())[0].to(torch.uint8)
        amount = values.number("mix")
        if flight.dry is not None and amount < 1.0:
            pictures = mix(flight.dry.to(pictures.dtype), pictures, amount)
        width, height = self._output_size or chunk.size
        shown = to_bgra(fit(pictures[0], width, height, values.text("fit")))
        self._arriving.append(_Arriving(flight.moments, self._transfer.download(shown, sound)))

    def collect(self, leave: int) -> list[Frame]:
        """Pictures that may come out; `leave` chunks may still be on their way if they have not come yet."""
        found = []
        while self._arriving and (len(self._arriving) > leave or self._arriving[0].download.ready):
            arrived = self._arriving.popleft()
            pixels, sound = arrived.download.pixels()
            self._told([moment.captured_at for moment in arrived.moments if moment.index != FILLER])
            for moment, picture, good in zip(arrived.moments, pixels, sound, strict=True):
                if moment.index == FILLER:
                    continue
                if good:
                    found.append(Frame(picture, PixelFormat.BGRX, moment.captured_at, moment.index))
                else:
                    self.lost = True
        return found
