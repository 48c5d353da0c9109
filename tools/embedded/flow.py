"""Flow matching with the input photo beside the noise: noisy latents, their targets and estimates, as pure functions.

Lipman et al. 2023, "Flow matching for generative modeling": x_s = (1 - s) x0 + s noise, velocity v = noise - x0, with
s in (0, 1]. A live stream starts below s = 1 from its own photo, not from a finished picture; `mixture` and `goal`
below describe such starts, so that a low strength stays near the photo and the change grows steadily with it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

LIGHT = 0.08  # of a colour's range of 2: how far the seed may tint a place
LIGHT_SIGMA = 3.0  # latent cells


def noisy(x0: Tensor, noise: Tensor, s: Tensor) -> Tensor:
    """x_s = (1 - s) x0 + s noise, for latents [B, C, H, W] and s [B]."""
    s = s[:, None, None, None]
    return (1 - s) * x0 + s * noise


def mixture(content: Tensor, target: Tensor, share: Tensor) -> Tensor:
    """What the noise is added to: the photo's latent at share 0, the stylised picture's latent at share 1."""
    return torch.lerp(content, target, share[:, None, None, None])


def goal(content: Tensor, target: Tensor, share: Tensor, s: Tensor) -> Tensor:
    """The picture wanted from a start with `share` at noise s: share + (1 - share) s of the way to the target.

    At s = 1 this is the target whatever the share; at share 1 it is the target at any s; at share 0 the change equals
    the strength. The velocity that leads there is noise - target for every share and s, so one network serves all.
    """
    return mixture(content, target, share + (1 - share) * s)


def velocity(x_s: Tensor, x0: Tensor, s: Tensor) -> Tensor:
    """The velocity that leads from x_s to x0: (x_s - x0) / s, which is noise - x0 where x_s was made from x0."""
    return (x_s - x0) / s[:, None, None, None]


def denoised(x_s: Tensor, predicted_velocity: Tensor, s: Tensor) -> Tensor:
    """The estimate of x0: x_s - s v."""
    return x_s - s[:, None, None, None] * predicted_velocity


def draw_sigmas(count: int, *, generator: torch.Generator) -> Tensor:
    """Noise levels [count] to train at: the first half are 1 (one-step use), the others spread over (0.1, 1)."""
    spread = 0.1 + 0.9 * torch.rand(count, generator=generator, device=generator.device)
    spread[: count // 2] = 1.0
    return spread


def draw_shares(count: int, *, generator: torch.Generator) -> Tensor:
    """Shares [count] of the target in the start: a third photo, a third finished picture, a third between.

    In the second half, where `draw_sigmas` gives levels below 1, the finished pictures come first.
    """
    between, kind = (torch.rand(count, generator=generator, device=generator.device) for _ in range(2))
    shares = torch.where(kind < 1 / 3, 0.0, torch.where(kind < 2 / 3, 1.0, between))
    half, ordered = count // 2, count // 2 + count // 6
    shares[half:ordered] = 1.0
    shares[ordered:] = torch.where(kind[ordered:] < 0.5, 0.0, between[ordered:])
    return shares


def seed_light(noise: Tensor, directions: Tensor) -> Tensor:
    """What the seed means: soft coloured light whose place follows the slow part of the noise, as a change of latents.

    noise [B, C, h, w], directions [C, 3] (latent change by colour) -> [B, C, h, w]. A small step of the noise moves the light a
    little, so that travelling between seeds makes it wander.
    """
    reach = 2 * int(LIGHT_SIGMA)
    places = torch.arange(-reach, reach + 1, device=noise.device, dtype=noise.dtype)
    kernel = torch.exp(-0.5 * (places / LIGHT_SIGMA) ** 2)
    kernel = (kernel / kernel.square().sum().sqrt()).expand(3, 1, 1, -1)  # unit noise stays of unit spread
    colours = noise[:, :3]
    rows = F.pad(colours, (reach, reach, 0, 0), mode="reflect")
    rows = F.conv2d(rows, kernel, groups=3)
    columns = F.conv2d(F.pad(rows, (0, 0, reach, reach), mode="reflect"), kernel.transpose(2, 3), groups=3)
    return torch.einsum("ck,bkhw->bchw", directions, LIGHT * torch.tanh(columns))
