"""The denoiser with what tells it and what shows its latents: the UNet, a text encoder, a decoder."""

import copy
from contextlib import AbstractContextManager, nullcontext

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextModel

from . import flow
from .precision import quick_dtype, quickly


class Conditioned(nn.Module):
    """(x_s, content, s, text) -> velocity [B, C, H, W]; `text` [B, 32, width] comes from `texts`.

    The text encoder comes trained and stays; `decoder`, the autoencoder's second half, comes trained and learns on.
    """

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel, decoder: nn.Module) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder.eval().requires_grad_(False)
        self.decoder = copy.deepcopy(decoder).requires_grad_(True)

    @torch.no_grad()
    def texts(self, ids: Tensor) -> Tensor:
        """What the network is told of token ids [B, 32]."""
        states: Tensor = self.text_encoder(ids).last_hidden_state
        return states

    def forward(self, x_s: Tensor, content: Tensor, s: Tensor, text: Tensor) -> Tensor:
        both = torch.cat([x_s, content], dim=1).contiguous(memory_format=torch.channels_last)
        if not torch.is_autocast_enabled(both.device.type):
            with quickest_attention(both.device):
                velocity: Tensor = self.unet(both, 1000.0 * s, text).sample
            return velocity.float()
        # All of it in one precision, as the finished network is run: autocast keeps normalisations in float32, which takes twice the time.
        # The weights are kept and learn in float32.
        precision = quick_dtype(both.device)
        weights = {name: weight.to(precision) for name, weight in self.unet.named_parameters()}
        with torch.autocast(both.device.type, enabled=False), quickest_attention(both.device):
            found: Tensor = functional_call(self.unet, weights, (both.to(precision), 1000.0 * s, text.to(precision))).sample
        return found.float()

    def estimate(self, x_s: Tensor, content: Tensor, s: Tensor, text: Tensor) -> Tensor:
        """The picture's latent [B, C, h, w] that the network sees in x_s at noise s [B], in the device's quickest precision."""
        with quickly(x_s.device):
            velocity = self(x_s, content, s, text)
        return flow.denoised(x_s, velocity, s)


def quickest_attention(device: torch.device) -> AbstractContextManager[None]:
    """On a CPU, where the fused attention's way back takes a sixth of a step, attention as plain products; else torch's own choice."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
