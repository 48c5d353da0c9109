"""How much noise a chunk gets and which timestep the denoiser is told: fixed, or less the more the input moves.

Pure: pictures and the last noise scale come in, 0-dim tensors go out, so that nothing waits for the device. The noise itself, fresh
or carried along by the optical flow, is in `flow_noise`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

STILL_TO_WILD = 0.2
"""Change (root mean square, pictures in [-1, 1]) from which on motion counts as wild: the sigma of the paper."""
SPREAD = 0.1
"""How much less noise wild motion gets: s_max - s_min."""
PULL = 0.9
"""Share of the newest chunk in the noise scale: the paper's lambda."""
UNDERSTATED = 100
"""Timesteps by which the denoiser is told less noise than there is, so that more of the input survives."""
TIMESTEPS = 1000


@dataclass(frozen=True, slots=True)
class NoiseLevel:
    """noise_scale: how much of the chunk's latent is noise, in [0, 1]; timestep: what the denoiser is told. 0-dim, one dtype."""

    noise_scale: Tensor
    timestep: Tensor


class NoisePolicy(Protocol):
    """Chooses the noise level of one chunk."""

    def level(self, asked: Tensor, change: Tensor, before: Tensor) -> NoiseLevel:
        """asked: the noise scale that is set now. change: of the chunk's pictures (`change`). before: the last chunk's noise scale,
        at the start of a stream the one asked for. All 0-dim, one float dtype and device.
        """
        ...


class FixedNoise:
    """The noise scale that is set, whatever the input does."""

    def level(self, asked: Tensor, change: Tensor, before: Tensor) -> NoiseLevel:
        """As in NoisePolicy; only `asked` counts."""
        return NoiseLevel(noise_scale=asked, timestep=understated(asked))


class MotionAwareNoise:
    """Less noise the more the input moves, so that quick motion is followed instead of re-imagined.

    StreamDiffusionV2 (Feng et al. 2025, "motion-aware noise controller"): with d = clamp(change / 0.2, 0, 1),
    s_t = 0.9 (s_asked - 0.1 d) + 0.1 s_{t-1}.
    """

    def level(self, asked: Tensor, change: Tensor, before: Tensor) -> NoiseLevel:
        """As in NoisePolicy."""
        d = (change / STILL_TO_WILD).clamp(0.0, 1.0)
        noise_scale = PULL * (asked - SPREAD * d) + (1.0 - PULL) * before
        return NoiseLevel(noise_scale=noise_scale, timestep=understated(noise_scale))


def change(pictures: Tensor) -> Tensor:
    """How much a chunk moves: the largest root mean square difference between neighbours, 0-dim, 0 to 2.

    pictures: [B, T, 3, H, W] in [-1, 1], T >= 2: the last picture before the chunk, then those of the chunk.
    """
    if pictures.shape[1] < 2:
        raise ValueError(f"a change needs two pictures, got {pictures.shape[1]}")
    steps = (pictures[:, 1:] - pictures[:, :-1]).square()
    return steps.mean(dim=(0, 2, 3, 4)).max().sqrt()


def understated(noise_scale: Tensor) -> Tensor:
    """The first timestep for a noise scale: floor(1000 s) - 100, at least 0; 0-dim of the same dtype."""
    return ((noise_scale * TIMESTEPS).floor() - UNDERSTATED).clamp(min=0.0)


def noised(x0: Tensor, noise: Tensor, noise_scale: Tensor) -> Tensor:
    """s eps + (1 - s) x0: a latent on the straight way of flow matching (Lipman et al. 2023), shaped as x0 [B, F, C, h, w]."""
    return torch.lerp(x0, noise, noise_scale.to(x0.dtype))
