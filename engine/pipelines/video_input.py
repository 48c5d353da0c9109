"""The first part of a video stream: frames become pictures of the model's size, and wait until there are enough for a chunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.control.live_values import Snapshot
from engine.frames import Frame, Pixels
from engine.gpu.transfer import Transfer
from engine.images.flow import luminance
from engine.images.pixel_formats import to_rgb
from engine.images.resize import fit
from engine.images.similarity import Thumbnail, thumbnail
from engine.models.video_codec import picture_count
from engine.models.video_policies import VideoPolicies
from engine.pipelines.video_output import FILLER, Flight, Moment
from engine.pipelines.video_parts import first_chunk
from engine.video.chunks import FrameChunks

ROOM = 64
"""Frames that may wait for a chunk."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One input frame: rgb [1, 3, H, W] in [-1, 1] at the size of the model, its luminance where motion is asked for, and a
    small one where likeness is.
    """

    rgb: Tensor
    grey: Pixels | None
    small: Thumbnail | None


@dataclass(frozen=True, slots=True)
class Gathered:
    """A chunk of pictures [1, T, 3, H, W]. greys: luminance at the end of each latent frame. smalls: of each picture. dropped: frames
    left out before it.
    """

    pictures: Tensor
    greys: tuple[Pixels | None, ...]
    smalls: tuple[Thumbnail | None, ...]
    flight: Flight
    dropped: int


class ChunkInput:
    """Collects the pictures of a session. pictures_per_latent: of the codec. dtype: of pictures."""

    def __init__(
        self, policies: VideoPolicies, transfer: Transfer, values: Snapshot, *, pictures_per_latent: int, dtype: torch.dtype
    ) -> None:
        self._policies, self._transfer, self._dtype = policies, transfer, dtype
        self._pictures_per_latent = pictures_per_latent
        first = self.pictures(self.first_frames(values), first=True)
        self._chunks: FrameChunks[Picture] = FrameChunks(first_pictures=first, room=ROOM)
        self._last: Picture | None = None
        self.next_index = 0

    def reset(self) -> None:
        """Start a new session; the last picture stays, to dream of."""
        self._chunks.reset()
        self.next_index = 0

    def forget(self) -> None:
        """The last picture has not the size that is wanted now."""
        self._last = None

    @property
    def waiting(self) -> int:
        """Frames that wait."""
        return self._chunks.waiting

    @property
    def dropped(self) -> int:
        """Frames left out since the beginning."""
        return self._chunks.dropped

    def first_frames(self, values: Snapshot) -> int:
        """Latent frames of the first chunk of a stream."""
        return 1 if values.toggle("one_frame_start") else first_chunk(self._policies, values.whole("chunk_frames"))

    def pictures(self, frames: int, *, first: bool) -> int:
        """Pictures in so many latent frames."""
        return picture_count(frames, first=first, pictures_per_latent=self._pictures_per_latent)

    def moment(self, captured_at: float, index: int | None = None) -> Moment:
        """The moment of the next frame. Indices only grow, also where frames and dreams take turns."""
        index = max(self.next_index if index is None else index, self.next_index)
        self.next_index = index + 1
        return Moment(captured_at, index)

    def put(self, frame: Frame, values: Snapshot, *, size: tuple[int, int], wants_grey: bool) -> None:
        """A frame comes in; its bytes belong to the caller again."""
        mode = values.text("fit")
        grey = luminance(frame.pixels, frame.format, *size, mode) if wants_grey else None
        rgb, _ = to_rgb(self._transfer.upload(frame.pixels), frame.format, self._dtype)
        small = thumbnail(frame.pixels, frame.format) if values.toggle("similarity_filter") else None
        self._last = Picture(fit(rgb, *size, mode), grey, small)
        self._wait(self._last, self.moment(frame.captured_at, frame.index), values)

    def put_again(self, captured_at: float, values: Snapshot, *, filling: bool = False) -> bool:
        """The last picture once more, as a frame of its own or only to fill a chunk up; False if there was none yet."""
        if self._last is None:
            return False
        self._wait(self._last, Moment(captured_at, FILLER) if filling else self.moment(captured_at), values)
        return True

    def _wait(self, picture: Picture, moment: Moment, values: Snapshot) -> None:
        if self._chunks.is_first and not self._chunks.waiting:
            self._chunks.reset(first_pictures=self.pictures(self.first_frames(values), first=True))
        self._chunks.put(picture, captured_at=moment.captured_at, index=moment.index)

    def take(self, frames: int) -> Gathered | None:
        """The pictures of a chunk of `frames` latent frames (of the first chunk's own number at the start), if there are enough."""
        chunk = self._chunks.take(self.pictures(frames, first=False))
        if chunk is None:
            return None
        pictures = torch.stack([collected.item.rgb for collected in chunk.frames], dim=1)
        moments = tuple(Moment(collected.captured_at, collected.index) for collected in chunk.frames)
        greys = _every([collected.item.grey for collected in chunk.frames], self._pictures_per_latent)
        smalls = tuple(collected.item.small for collected in chunk.frames)
        return Gathered(pictures, greys, smalls, Flight(moments, pictures), chunk.dropped)


def _every(greys: Sequence[Pixels | None], step: int) -> tuple[Pixels | None, ...]:
    """The last, and every `step`-th before it: one a latent frame."""
    return tuple(greys[::-1][::step][::-1])
