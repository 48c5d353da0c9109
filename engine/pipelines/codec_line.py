"""A video codec as the stream uses it: work is begun, and its result is asked for later, in order. It may be done elsewhere."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from torch import Tensor

from engine.models.video_codec import VideoCodec


class CodecLine(Protocol):
    """A session of a video autoencoder; shapes as in engine.models.video_codec.VideoCodec.

    ahead: chunks that may be between `begin_...` and its result for the work to overlap with denoising; 0 if it does not.
    """

    ahead: int
    latent_channels: int
    factor: int
    pictures_per_latent: int

    def begin_encode(self, pictures: Tensor) -> None:
        """The next pictures of the session; see `encoded`. ValueError for a wrong number of them, here or there."""
        ...

    def encoded(self) -> Tensor:
        """The oldest `begin_encode`'s latents."""
        ...

    def encode_alone(self, picture: Tensor) -> Tensor:
        """As VideoCodec.encode_alone."""
        ...

    def begin_decode(self, latents: Tensor) -> None:
        """The next latents of the session; see `decoded`."""
        ...

    def decoded(self) -> Tensor:
        """The oldest `begin_decode`'s pictures."""
        ...

    def reset(self) -> None:
        """Start a new session; results that were not asked for are dropped."""
        ...


class CodecHere:
    """A codec of this process, which works at once."""

    ahead = 0

    def __init__(self, codec: VideoCodec) -> None:
        self.codec = codec
        self.latent_channels, self.factor, self.pictures_per_latent = codec.latent_channels, codec.factor, codec.pictures_per_latent
        self._latents: deque[Tensor] = deque()
        self._pictures: deque[Tensor] = deque()

    def begin_encode(self, pictures: Tensor) -> None:
        """As CodecLine.begin_encode."""
        self._latents.append(self.codec.encode(pictures))

    def encoded(self) -> Tensor:
        """As CodecLine.encoded."""
        return self._latents.popleft()

    def encode_alone(self, picture: Tensor) -> Tensor:
        """As VideoCodec.encode_alone."""
        return self.codec.encode_alone(picture)

    def begin_decode(self, latents: Tensor) -> None:
        """As CodecLine.begin_decode."""
        self._pictures.append(self.codec.decode(latents))

    def decoded(self) -> Tensor:
        """As CodecLine.decoded."""
        return self._pictures.popleft()

    def reset(self) -> None:
        """As CodecLine.reset."""
        self._latents.clear()
        self._pictures.clear()
        self.codec.reset()
