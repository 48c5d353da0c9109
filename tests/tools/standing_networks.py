"""Networks of closed form that stand in for the denoiser and the decoder."""

from types import SimpleNamespace

import torch
from embedded.networks import LATENTS
from torch import nn


class Painter(nn.Module):
    """A denoiser that paints the photo in the colour of its text: latents are a third of the photo's, and the text's first numbers."""

    def forward(self, both: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor) -> SimpleNamespace:
        x_s, content = both[:, :LATENTS], both[:, LATENTS:]
        wanted = content / 3 + text[:, 0, :LATENTS, None, None]
        return SimpleNamespace(sample=(x_s - wanted) / (timestep / 1000)[:, None, None, None])


class Shown(nn.Module):
    """A decoder that shows the first three channels."""

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(latents[:, :3].float(), scale_factor=8)
