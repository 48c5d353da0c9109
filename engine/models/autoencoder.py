"""Pictures to latents and back, whatever the autoencoder: one convention for all, never a random sample."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from engine.models.weights import LoadedModel


class Autoencoder:
    """diffusers' AutoencoderTiny or AutoencoderKL behind one convention: RGB in [-1, 1], latents as the UNet takes them.

    The KL kind gives the mode of its distribution: a sample would flicker. Weights that are in another precision than
    `dtype` (SDXL's own, which overflows in float16) are run in theirs; what goes in and comes out is in `dtype`.
    """

    def __init__(self, vae: Any, *, dtype: torch.dtype) -> None:
        config = vae.config
        weights = next(vae.parameters())
        self._vae = vae
        self.dtype = dtype
        self._weights_dtype = weights.dtype
        self._is_tiny = type(vae).__name__ == "AutoencoderTiny"
        self.latent_channels = int(config.latent_channels)
        blocks = config.encoder_block_out_channels if self._is_tiny else config.block_out_channels
        self.factor = int(2 ** (len(blocks) - 1))
        """Pixels a side of one latent element."""
        mean, deviation = config.get("latents_mean"), config.get("latents_std")
        centred = mean is not None and deviation is not None
        scaling = float(config.scaling_factor)
        self._shift = _channels(mean if centred else [config.get("shift_factor") or 0.0], weights.device)
        self._scale = scaling / _channels(deviation if centred else [1.0], weights.device)

    @classmethod
    def of(cls, loaded: LoadedModel) -> Autoencoder:
        """The autoencoder of a loaded model."""
        return cls(loaded.vae, dtype=loaded.dtype)

    def encode(self, rgb: Tensor) -> Tensor:
        """RGB [B, 3, H, W] in [-1, 1] to scaled latents [B, C, H/factor, W/factor]; H and W are multiples of `factor`."""
        return ((self._encoded(rgb) - self._shift) * self._scale).to(self.dtype)

    def unscaled(self, latents: Tensor) -> Tensor:
        """Latents as `encode` gives them, without scale and shift: the image condition of InstructPix2Pix (Brooks et al. 2023)."""
        return latents.float() / self._scale + self._shift

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents [B, C, h, w] to RGB [B, 3, h*factor, w*factor] in [-1, 1]."""
        decoded: Tensor = self._vae.decode(self.unscaled(latents).to(self._weights_dtype), return_dict=False)[0]
        return decoded.clamp(-1, 1).to(self.dtype)

    def _encoded(self, rgb: Tensor) -> Tensor:
        """The unscaled latents, float32."""
        encoded = self._vae.encode(rgb.to(self._weights_dtype))
        latents: Tensor = encoded.latents if self._is_tiny else encoded.latent_dist.mode()
        return latents.float()


def _channels(values: list[float], device: torch.device) -> Tensor:
    """float32 [1, C or 1, 1, 1]."""
    return torch.tensor(values, dtype=torch.float32, device=device).view(1, -1, 1, 1)
