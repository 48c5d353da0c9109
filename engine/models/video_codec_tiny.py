"""The tiny Wan autoencoder as a video codec: a session that remembers one frame a memory block and computes nothing twice."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.models.taehv import LATENT_CHANNELS, Memory, Taehv
from engine.models.video_codec import LatentConvention, check_picture_count


class StreamTaehv:
    """TAEHV, streamed: equal to running it over the whole clip. One latent at a time, so that the way a clip is cut into chunks
    changes not one bit.

    About a 27th of the Wan autoencoder's work, and a few megabytes a session instead of gigabytes. Its own latents are the
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
        self._encoder_memory: Memory = {}
        self._decoder_memory: Memory = {}

    def encode(self, pictures: Tensor) -> Tensor:
        """As VideoCodec.encode: [B, T, 3, H, W] to [B, F, 16, H/8, W/8]."""
        return self._encode(pictures, self._encoder_memory)

    def encode_alone(self, picture: Tensor) -> Tensor:
        """As VideoCodec.encode_alone."""
        return self._encode(picture, {})

    @torch.no_grad()
    def _encode(self, pictures: Tensor, memory: Memory) -> Tensor:
        first = not memory
        check_picture_count(pictures.shape[1], first=first, pictures_per_latent=4)
        if first:
            pictures = torch.cat([pictures[:, :1].expand(-1, 3, -1, -1, -1), pictures], dim=1)
        rgb = (pictures.to(self._dtype) + 1) / 2
        z = torch.cat([self._network.encode(group, memory) for group in rgb.split(self.pictures_per_latent, dim=1)], dim=1).float()
        return z * self._std + self._mean if self._is_raw else z

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """As VideoCodec.decode: normalised latents [B, F, 16, h, w] to pictures in the precision of the weights."""
        first = not self._decoder_memory
        frames = latents.to(self._dtype).split(1, dim=1)
        pictures = torch.cat([self._network.decode(frame, self._decoder_memory) for frame in frames], dim=1)
        return pictures[:, 3 if first else 0 :].clamp(0, 1) * 2 - 1

    def reset(self) -> None:
        """As VideoCodec.reset."""
        self._encoder_memory.clear()
        self._decoder_memory.clear()

    @property
    def cache_bytes(self) -> int:
        """Memory that this session holds beside the shared weights."""
        return sum(frame.nbytes for memory in (self._encoder_memory, self._decoder_memory) for frame in memory.values())
