"""The noise levels of few-step video models: explicit timesteps on a shifted flow grid.

x = (1 - sigma) x0 + sigma eps; the network's velocity is eps - x0 (Lipman et al. 2023; shift as in Esser et al. 2024, eq. 23).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.video.positions import exact

TRAINED_TIMESTEPS = 1000


@dataclass(frozen=True, eq=False, slots=True)
class Levels:
    """The denoising steps of a chunk, largest first, on its device: what the network is told, and how much of a latent is noise.

    timesteps: float32 [N], 0 to 1000. sigmas: [N], 0 to 1, in the dtype of `positions.exact`.
    """

    timesteps: Tensor
    sigmas: Tensor

    def __len__(self) -> int:
        return int(self.timesteps.shape[0])

    def cut(self, first: int, last: int) -> Levels:
        """Steps [first, last)."""
        return Levels(self.timesteps[first:last], self.sigmas[first:last])


@dataclass(frozen=True, slots=True)
class FlowGrid:
    """The grid that causal video models were distilled on: u_i = 1 - i / 1000, sigma_i = s u / (1 + (s - 1) u), t_i = 1000 sigma_i."""

    shift: float

    def at(self, u: Tensor) -> Tensor:
        """sigma at grid positions u in 0..1."""
        return self.shift * u / (1.0 + (self.shift - 1.0) * u)

    def warped(self, timestep: float) -> float:
        """What the shift makes of the grid position 1000 u; a host number."""
        u = timestep / TRAINED_TIMESTEPS
        return TRAINED_TIMESTEPS * self.shift * u / (1.0 + (self.shift - 1.0) * u)

    def nearest(self, timesteps: Tensor) -> Tensor:
        """sigma of the grid point whose timestep is nearest to each of `timesteps` 0..1000; the grid is coarse near 0."""
        sigma = (timesteps.to(exact(timesteps.device)) / TRAINED_TIMESTEPS).clamp(0.0, 1.0)
        u = sigma / (self.shift - (self.shift - 1.0) * sigma)
        index = (TRAINED_TIMESTEPS * (1.0 - u)).floor()
        before, after = (self.at(1.0 - (index + i).clamp(0, TRAINED_TIMESTEPS - 1) / TRAINED_TIMESTEPS) for i in (0, 1))
        return torch.where((before - sigma).abs() <= (after - sigma).abs(), before, after)

    def levels(self, timesteps: Sequence[float], device: torch.device, *, warped: bool = False) -> Levels:
        """Levels of explicit timesteps. warped: they are grid positions 1000 u, and the timesteps are what the shift makes of them."""
        asked = torch.tensor(timesteps, dtype=exact(device))
        if warped:
            asked = TRAINED_TIMESTEPS * self.at(asked / TRAINED_TIMESTEPS)
        return self.of(asked.to(device, non_blocking=True))

    def of(self, timesteps: Tensor) -> Levels:
        """Levels of timesteps [N] on the device."""
        return Levels(timesteps.float(), self.nearest(timesteps))

    def from_first(self, levels: Levels, first: Tensor) -> Levels:
        """The same with another first timestep, 0-dim; the rest stays."""
        return self.of(torch.cat((first.to(levels.timesteps.dtype).view(1), levels.timesteps[1:])))


def clean_of(x: Tensor, velocity: Tensor, sigma: Tensor) -> Tensor:
    """x0 = x - sigma v in the precision of sigma, which broadcasts; float32 out."""
    return (x.to(sigma.dtype) - sigma * velocity.to(sigma.dtype)).float()


def noised(x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """(1 - sigma) x0 + sigma eps, float32; sigma broadcasts."""
    return ((1.0 - sigma) * x0 + sigma * noise).float()
