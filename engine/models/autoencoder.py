"""Pictures to latents and back, whatever the autoencoder: one convention for all, never a random sample."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from engine.models.folded_autoencoder import frozen_decoder, frozen_encoder
from engine.models.weights import LoadedModel
from engine.runtimes.runtime import Runtime, TorchRuntime


class EncoderNetwork(nn.Module):
    """An autoencoder's way in, as a function of tensors alone: RGB in [-1, 1] to unscaled latents, float32."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self._is_tiny = _is_tiny(vae)
        self.network = frozen_encoder(vae.encoder) if self._is_tiny else vae

    def forward(self, rgb: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, C, H/factor, W/factor], in the precision of the weights between."""
        rgb = rgb.to(next(self.parameters()).dtype)
        latents: Tensor = self.network(rgb) if self._is_tiny else self.network.encode(rgb).latent_dist.mode()
        return latents.float()


class DecoderNetwork(nn.Module):
    """An autoencoder's way out: unscaled latents to RGB about [-1, 1], in the precision of the weights."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self._is_tiny = _is_tiny(vae)
        self.network = frozen_decoder(vae.decoder) if self._is_tiny else vae

    def forward(self, latents: Tensor) -> Tensor:
        """[B, C, h, w] to [B, 3, h*factor, w*factor]."""
        latents = latents.to(next(self.parameters()).dtype)
        rgb: Tensor = self.network(latents) if self._is_tiny else self.network.decode(latents, return_dict=False)[0]
        return rgb


class Autoencoder:
    """diffusers' AutoencoderTiny or AutoencoderKL behind one convention: RGB in [-1, 1], latents as the UNet takes them.

    The tiny kind is folded where it can be, by its weights as they are now (`folded_autoencoder`). The KL kind gives the mode of
    its distribution: a sample would flicker. Weights that are in another precision than `dtype` (SDXL's own, which overflows in
    float16) are run in theirs; what goes in and comes out is in `dtype`.
    """

    def __init__(self, vae: Any, *, dtype: torch.dtype, runtime: Runtime | None = None) -> None:
        config = vae.config
        weights = next(vae.parameters())
        self._runtime = runtime or TorchRuntime()
        self._encoder, self._decoder = EncoderNetwork(vae), DecoderNetwork(vae)
        self.dtype = dtype
        self.latent_channels = int(config.latent_channels)
        blocks = config.encoder_block_out_channels if _is_tiny(vae) else config.block_out_channels
        self.factor = int(2 ** (len(blocks) - 1))
        """Pixels a side of one latent element."""
        mean, deviation = config.get("latents_mean"), config.get("latents_std")
        centred = mean is not None and deviation is not None
        scaling = float(config.scaling_factor)
        self._shift = _channels(mean if centred else [config.get("shift_factor") or 0.0], weights.device)
        self._scale = scaling / _channels(deviation if centred else [1.0], weights.device)

    @classmethod
    def of(cls, loaded: LoadedModel, *, runtime: Runtime | None = None) -> Autoencoder:
        """The autoencoder of a loaded model."""
        return cls(loaded.vae, dtype=loaded.dtype, runtime=runtime)

    def encode(self, rgb: Tensor) -> Tensor:
        """RGB [B, 3, H, W] in [-1, 1] to scaled latents [B, C, H/factor, W/factor]; H and W are multiples of `factor`."""
        return ((self._runtime("encoder", self._encoder, (rgb,)) - self._shift) * self._scale).to(self.dtype)

    def unscaled(self, latents: Tensor) -> Tensor:
        """Latents as `encode` gives them, without scale and shift: the image condition of InstructPix2Pix (Brooks et al. 2023)."""
        return latents.float() / self._scale + self._shift

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents [B, C, h, w] to RGB [B, 3, h*factor, w*factor] in [-1, 1]."""
        decoded = self._runtime("decoder", self._decoder, (self.unscaled(latents),))
        return decoded.clamp(-1, 1).to(self.dtype)


def _is_tiny(vae: Any) -> bool:
    return type(vae).__name__ == "AutoencoderTiny"


def _channels(values: list[float], device: torch.device) -> Tensor:
    """float32 [1, C or 1, 1, 1]."""
    return torch.tensor(values, dtype=torch.float32, device=device).view(1, -1, 1, 1)
