"""What a training clip looks like before denoising: which frames are at which step of the stream, and what they started from.

A frame at its first step is the noised input, x = (1 - s) z + s eps, and the network is told 1000 s - 100 as the stream tells it; in a
dream it is noise alone at 1000. A frame at a later step is the noised result, x = (1 - t) y + t eps at 1000 t. A frame of the
context that was run again is the result, told 0. In every case the wanted velocity v takes x to y: y = x - sigma v with sigma the told
timestep / 1000, so that one step is exact whatever the input was.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .pool import Batch

USUAL, OFTEN = 0.5, 0.6  # the strength of most clips, and their share
WEAKEST, STRONGEST = 0.25, 0.9
UNDERSTATED = 0.1  # as in engine.video.noise_control
CONTEXT = 0.3  # of the clips have frames in front that are at a later step, or finished
SWITCHED = 0.15  # of the clips change their look
GRAIN = 0.1  # noise on finished frames, for the model to bear with its own mistakes
LATER = 0.6  # highest noise of a later step


@dataclass(frozen=True)
class Noised:
    """x, target: [B, F, C, h, w]. sigma: [B, F], the timestep told / 1000; 0: a finished frame, which has no loss. second: bool [B, F]."""

    x: Tensor
    target: Tensor
    sigma: Tensor
    second: Tensor


def noised(batch: Batch, *, generator: torch.Generator) -> Noised:
    """A batch at random steps of the stream."""
    count, frames = batch.target.shape[:2]
    number = torch.arange(frames)[None]

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    usual = uniform(0, 1, count, 1) < OFTEN
    strength = torch.where(usual, torch.tensor(USUAL), uniform(WEAKEST, STRONGEST, count, 1)).expand(-1, frames)
    scale = torch.where(batch.dreamt[:, None], 1.0, strength)
    told = torch.where(batch.dreamt[:, None], 1.0, strength - UNDERSTATED)
    has_context = (uniform(0, 1, count, 1) < CONTEXT) & ~(batch.dreamt[:, None] & (uniform(0, 1, count, 1) < 0.5))
    border = torch.randint(1, frames + 1, (count, 1), generator=generator)
    later = has_context & (number < border)
    finished = later & (uniform(0, 1, count, 1) < 0.5) & (border < frames)
    sigma = torch.where(later, uniform(0.05, LATER, count, 1), told)
    sigma = torch.where(finished, 0.0, sigma)
    change = torch.randint(1, frames, (count, 1), generator=generator)
    second = (number >= change) & (uniform(0, 1, count, 1) < SWITCHED) & ~batch.dreamt[:, None]
    target = torch.where(_wide(second), batch.other, batch.target)
    noise = torch.where(_wide(later), torch.randn(batch.noise.shape, generator=generator), batch.noise)
    first_step = torch.lerp(batch.source, noise, _wide(scale))
    later_step = torch.lerp(target, noise, _wide(torch.where(finished, torch.tensor(GRAIN), sigma)))
    return Noised(x=torch.where(_wide(later), later_step, first_step), target=target, sigma=sigma, second=second)


def _wide(per_frame: Tensor) -> Tensor:
    return per_frame[:, :, None, None, None]


def loss_of(velocity: Tensor, noised: Noised) -> Tensor:
    """Mean smooth absolute error of the one-step results y = x - sigma v over the frames that are not finished; a frame counts the
    same at every noise level."""
    made = noised.x - _wide(noised.sigma) * velocity
    error = torch.sqrt((made - noised.target).square() + 1e-3).mean(dim=(2, 3, 4))
    counts = (noised.sigma > 0).float()
    return (error * counts).sum() / counts.sum().clamp(min=1)
