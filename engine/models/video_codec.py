"""Pictures to latents and back, chunk by chunk: one contract for all video codecs, and the two plain ones behind it.

Here are the Wan autoencoder with its feature caches kept between calls, and an image autoencoder used frame by frame. The
tiny Wan autoencoder is in `video_codec_tiny`. A codec object is one session: it owns its caches and shares the weights.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from engine.models.autoencoder import Autoencoder

LatentConvention = Literal["normalised", "raw"]
"""What a checkpoint takes as an encoded input: (mu - mean) / std, or the autoencoder's own mean mu. What it gives is always normalised."""


class VideoCodec(Protocol):
    """One session of a video autoencoder.

    latent_channels: C. factor: pixels a side of one latent element. pictures_per_latent: 4 for Wan; the first latent of a
    session is one picture alone. Latents are float32 [B, F, C, h, w], pictures [B, T, 3, H, W] in [-1, 1].
    """

    latent_channels: int
    factor: int
    pictures_per_latent: int

    def encode(self, pictures: Tensor) -> Tensor:
        """The next pictures of the session to their latents: T = 1 + 4k at its start, 4k afterwards (T = F if one picture is
        one latent). ValueError for another number."""
        ...

    def encode_alone(self, picture: Tensor) -> Tensor:
        """One picture [B, 1, 3, H, W] as the first latent of a session of its own, [B, 1, C, h, w]; this session goes on untouched."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """The next latents of the session to their pictures, clamped to [-1, 1]."""
        ...

    def reset(self) -> None:
        """Start a new session: the next picture and the next latent are first ones."""
        ...

    @property
    def memory(self) -> list[Tensor]:
        """What the session remembers of the past, not copied."""
        ...

    @property
    def is_steady(self) -> bool:
        """Whether every further call does the same work, so that it can be captured as a CUDA graph."""
        ...


def picture_count(latent_frames: int, *, first: bool, pictures_per_latent: int = 4) -> int:
    """How many pictures `latent_frames` latents hold; first: they are the first ones of a session."""
    return latent_frames * pictures_per_latent - (pictures_per_latent - 1 if first else 0)


def check_picture_count(pictures: int, *, first: bool, pictures_per_latent: int) -> None:
    """ValueError unless the pictures fill whole latents."""
    rest = (pictures - 1 if first and pictures_per_latent > 1 else pictures) % pictures_per_latent
    if pictures < 1 or rest:
        wanted = f"1 + {pictures_per_latent}k" if first and pictures_per_latent > 1 else f"a multiple of {pictures_per_latent}"
        raise ValueError(f"{'the first chunk' if first else 'a chunk'} holds {wanted} pictures, not {pictures}")


class FeatureCache:
    """What the causal convolutions of one half of the Wan autoencoder remember: the last frames before the next call.

    fixed: from the second call on all entries have their final shape and live at the same place in memory, across resets too,
    so that a CUDA graph that was captured then stays right; that costs one copy of the cache a call.
    """

    def __init__(self, entries: int, *, fixed: bool = False) -> None:
        self._entries: list[Any] = [None] * entries
        self._homes: list[Any] | None = None
        self._is_fixed = fixed
        self._calls = 0

    def run(self, network: Any, x: Tensor, **first: bool) -> Tensor:
        """One call of an encoder or decoder network that reads and renews the entries."""
        entries = list(self._entries)
        out: Tensor = network(x, feat_cache=entries, feat_idx=[0], **first)
        self._calls = min(self._calls + 1, 2)
        self._entries = self._brought_home(entries) if self._is_fixed and self.is_steady else entries
        return out

    def _brought_home(self, entries: list[Any]) -> list[Any]:
        """The values of `entries` at their fixed places, which are made where there are none or of another size."""
        if self._homes is None or not all(map(_same_shape, self._homes, entries)):
            self._homes = entries
        for home, entry in zip(self._homes, entries, strict=True):
            if home is not entry:
                home.copy_(entry)
        return self._homes

    @property
    def is_new(self) -> bool:
        """Whether nothing has been run yet."""
        return self._calls == 0

    @property
    def is_steady(self) -> bool:
        """Whether two calls have been run: the first takes one frame, the second sees the first's; all others do the same work."""
        return self._calls == 2

    @property
    def tensors(self) -> list[Tensor]:
        """What is remembered, not copied."""
        return [entry for entry in self._entries if isinstance(entry, Tensor)]

    def clear(self) -> None:
        """Forget everything."""
        self._entries = [None] * len(self._entries)
        self._calls = 0


def _same_shape(old: Any, new: Any) -> bool:
    return bool(old is new or (isinstance(old, Tensor) and isinstance(new, Tensor) and old.shape == new.shape))


def to_channels_last(vae: Any) -> None:
    """Lay the weights of the convolutions out with their channels last, as tensor cores want them; what they compute stays."""
    for weight in vae.parameters():
        if weight.ndim in (4, 5):
            weight.data = weight.data.contiguous(memory_format=torch.channels_last if weight.ndim == 4 else torch.channels_last_3d)


class StreamVae:
    """diffusers' AutoencoderKLWan, streamed: bit for bit what its own encode and decode give for the whole clip.

    The Stream-VAE of StreamDiffusionV2 (Feng et al. 2025): the encoder takes one picture, then groups of four; the decoder one
    latent at a time; the convolutions' caches live on in between. Only the mean of the distribution is used.
    input_latents: see LatentConvention. Weights may be in any precision; latents are float32.
    """

    pictures_per_latent = 4

    def __init__(self, vae: Any, *, input_latents: LatentConvention = "normalised", fixed_caches: bool = False) -> None:
        config = vae.config
        if config.patch_size is not None or config.scale_factor_temporal != self.pictures_per_latent:
            raise ValueError("the streaming codec runs autoencoders in the shape of Wan 2.1's: 4 pictures a latent, no patches")
        weights = next(vae.parameters())
        self._vae = vae
        self._dtype = weights.dtype
        last = vae.encoder.conv_in.weight.stride(1) == 1
        self._layout = torch.channels_last_3d if last else torch.contiguous_format
        self.latent_channels = int(config.z_dim)
        self.factor = int(config.scale_factor_spatial)
        self._input_latents = input_latents
        self._mean = torch.tensor(config.latents_mean, device=weights.device).view(1, 1, -1, 1, 1)
        self._std = torch.tensor(config.latents_std, device=weights.device).view(1, 1, -1, 1, 1)
        counts = vae._cached_conv_counts
        self._encoder_cache = FeatureCache(counts["encoder"], fixed=fixed_caches)
        self._decoder_cache = FeatureCache(counts["decoder"], fixed=fixed_caches)

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """As VideoCodec.encode: [B, T, 3, H, W] to [B, F, C, H/8, W/8]."""
        return self._encode(pictures, self._encoder_cache)

    @torch.no_grad()
    def encode_alone(self, picture: Tensor) -> Tensor:
        """As VideoCodec.encode_alone; Krea's context recompute needs it."""
        return self._encode(picture, FeatureCache(self._vae._cached_conv_counts["encoder"]))

    def _encode(self, pictures: Tensor, cache: FeatureCache) -> Tensor:
        check_picture_count(pictures.shape[1], first=cache.is_new, pictures_per_latent=4)
        x = pictures.transpose(1, 2).to(self._dtype, memory_format=self._layout)
        parts = []
        if cache.is_new:
            parts.append(cache.run(self._vae.encoder, x[:, :, :1]))
            x = x[:, :, 1:]
        for start in range(0, x.shape[2], 4):
            parts.append(cache.run(self._vae.encoder, x[:, :, start : start + 4]))
        moments = torch.cat([self._vae.quant_conv(part) for part in parts], dim=2)
        mu = moments[:, : self.latent_channels].transpose(1, 2).float()
        return mu if self._input_latents == "raw" else (mu - self._mean) / self._std

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """As VideoCodec.decode: normalised latents [B, F, C, h, w] to pictures in the precision of the weights."""
        z = (latents.float() * self._std + self._mean).transpose(1, 2).to(self._dtype, memory_format=self._layout)
        parts = []
        for frame in z.split(1, dim=2):
            first = self._decoder_cache.is_new
            parts.append(self._decoder_cache.run(self._vae.decoder, self._vae.post_quant_conv(frame), first_chunk=first))
        return torch.cat(parts, dim=2).transpose(1, 2).clamp(-1.0, 1.0)

    def reset(self) -> None:
        """As VideoCodec.reset."""
        self._encoder_cache.clear()
        self._decoder_cache.clear()

    @property
    def memory(self) -> list[Tensor]:
        """What this session remembers, not copied: to be saved and put back around calls that must not count, as those that
        warm up a CUDA graph."""
        return [*self._encoder_cache.tensors, *self._decoder_cache.tensors]

    @property
    def is_steady(self) -> bool:
        """Whether both halves have run twice; from then on every call does the same work at the same places (fixed_caches)."""
        return self._encoder_cache.is_steady and self._decoder_cache.is_steady


class FrameCodec:
    """An image autoencoder as a video codec: each picture is one latent, nothing is remembered. For the embedded video model."""

    pictures_per_latent = 1

    def __init__(self, autoencoder: Autoencoder) -> None:
        self._autoencoder = autoencoder
        self.latent_channels = autoencoder.latent_channels
        self.factor = autoencoder.factor

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """As VideoCodec.encode: [B, T, 3, H, W] to [B, T, C, h, w]."""
        latents: Tensor = self._autoencoder.encode(pictures.flatten(0, 1)).float().unflatten(0, pictures.shape[:2])
        return latents

    def encode_alone(self, picture: Tensor) -> Tensor:
        """As VideoCodec.encode_alone: the same as encode."""
        return self.encode(picture)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """As VideoCodec.decode: [B, F, C, h, w] to [B, F, 3, H, W]."""
        pictures: Tensor = self._autoencoder.decode(latents.flatten(0, 1)).unflatten(0, latents.shape[:2])
        return pictures

    def reset(self) -> None:
        """Nothing to forget."""

    @property
    def memory(self) -> list[Tensor]:
        """As VideoCodec.memory: nothing."""
        return []

    @property
    def is_steady(self) -> bool:
        """As VideoCodec.is_steady: always."""
        return True
