"""The tiny Wan autoencoder as a video codec: a session that remembers one frame a memory block and computes nothing twice."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.models.taehv import LATENT_CHANNELS, Memory, Taehv
from engine.models.video_codec import LatentConvention, check_picture_count


class StreamTaehv:
    """TAEHV, streamed: equal to running it over the whole clip. One latent at a time, so that the way a clip is cut into chunks
    changes not one bit.

    About a 27th of the Wan autoencoder's work, and 0.12 GB a session instead of 3 GB (832x480, half precision). Its own latents are the
    normalised ones; for a checkpoint that takes raw ones `latents_mean` and `latents_std` (of Wan's autoencoder, C numbers each)
    bring them there: mu = z * std + mean.

    The first picture of a session fills the first latent alone, as with Wan: it is shown four times to the encoder, and of
    the decoder's first four pictures the last one is kept. The reference implementation groups the pictures of a clip from its
    very first one instead, which lets the encoder see three pictures ahead; live, these would have to be waited for.
    """

    pictures_per_latent = Taehv.pictures_per_latent
    factor = Taehv.factor
    latent_channels = LATENT_CHANNELS

    def __init__(
        self,
        network: Taehv,
        *,
        input_latents: LatentConvention = "normalised",
        latents_mean: tuple[float, ...] = (),
        latents_std: tuple[float, ...] = (),
    ) -> None:
        if input_latents == "raw" and not len(latents_mean) == len(latents_std) == LATENT_CHANNELS:
            raise ValueError(f"raw latents need the {LATENT_CHANNELS} means and deviations of the large autoencoder")
        weights = next(network.parameters())
        self._network = network
        self._dtype = weights.dtype
        self._is_raw = input_latents == "raw"
        self._mean = torch.tensor(latents_mean, device=weights.device).view(1, 1, -1, 1, 1)
        self._std = torch.tensor(latents_std, device=weights.device).view(1, 1, -1, 1, 1)
        self._encoder_past, self._decoder_past = _Past(), _Past()

    def encode(self, pictures: Tensor) -> Tensor:
        """As VideoCodec.encode: [B, T, 3, H, W] to [B, F, 16, H/8, W/8]."""
        return self._encode(pictures, self._encoder_past)

    def encode_alone(self, picture: Tensor) -> Tensor:
        """As VideoCodec.encode_alone."""
        return self._encode(picture, _Past())

    @torch.no_grad()
    def _encode(self, pictures: Tensor, past: _Past) -> Tensor:
        check_picture_count(pictures.shape[1], first=past.is_new, pictures_per_latent=4)
        if past.is_new:
            pictures = torch.cat([pictures[:, :1].expand(-1, 3, -1, -1, -1), pictures], dim=1)
        memory = past.for_call(pictures)
        rgb = (pictures.to(self._dtype) + 1) / 2
        z = torch.cat([self._network.encode(group, memory) for group in rgb.split(self.pictures_per_latent, dim=1)], dim=1).float()
        return z * self._std + self._mean if self._is_raw else z

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """As VideoCodec.decode: normalised latents [B, F, 16, h, w] to pictures in the precision of the weights."""
        unshown = 3 if self._decoder_past.is_new else 0
        memory = self._decoder_past.for_call(latents)
        frames = latents.to(self._dtype).split(1, dim=1)
        pictures = torch.cat([self._network.decode(frame, memory) for frame in frames], dim=1)
        return pictures[:, unshown:].clamp(0, 1) * 2 - 1

    def reset(self) -> None:
        """As VideoCodec.reset."""
        self._encoder_past.clear()
        self._decoder_past.clear()

    @property
    def memory(self) -> list[Tensor]:
        """As VideoCodec.memory."""
        return [*self._encoder_past.memory.values(), *self._decoder_past.memory.values()]

    @property
    def is_steady(self) -> bool:
        """As VideoCodec.is_steady: after the first latent in and out."""
        return not (self._encoder_past.is_new or self._decoder_past.is_new)


class _Past:
    """One half's memory, at the same place for the life of a codec: a reset writes zeros into it, which is what the network
    knows at the start."""

    def __init__(self) -> None:
        self.memory: Memory = {}
        self.is_new = True
        self._size: tuple[int, ...] = ()

    def for_call(self, x: Tensor) -> Memory:
        """The memory for a call with `x` [B, T, C, H, W]; made anew if a session starts at another size."""
        size = (x.shape[0], *x.shape[3:])
        if self.is_new and size != self._size:
            self.memory.clear()
        self._size, self.is_new = size, False
        return self.memory

    def clear(self) -> None:
        """Back to the start."""
        self.is_new = True
        for frame in self.memory.values():
            frame.zero_()
