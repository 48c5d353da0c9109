"""What one step of the denoiser's training is given: pairs, noise, sigmas and shares become starts and what is wanted of them."""

import torch
from torch import Tensor

from . import flow
from .pair_pool import PairBatch

UNPROMPTED = 0.1  # share of samples with the empty prompt, whose picture is the photo
JITTER = 0.15  # noise added to the photo's latent, at most: the grain of a camera must not boil in the picture


class Batch:
    """The tensors of one step: starts, what is wanted, and what the network is told. The first half stands at s = 1.

    texts [B, 32, width] are those of the pairs' prompts, `empty` [1, 32, width] that of the empty one.
    """

    def __init__(self, pairs: PairBatch, texts: Tensor, empty: Tensor, directions: Tensor, generator: torch.Generator) -> None:
        count, device = len(pairs.content), pairs.content.device
        plain = (torch.rand(count, device=device, generator=generator) < UNPROMPTED) & ~pairs.painted
        prompted = ~(plain | pairs.painted)
        self.texts = torch.where(plain[:, None, None], empty, texts)
        target = torch.where(wide(plain), pairs.content, pairs.target)
        self.pictures = torch.where(wide(plain), pairs.contents, pairs.targets)
        fresh = torch.randn(target.shape, device=device, generator=generator)
        noise = torch.where(wide(pairs.painted), pairs.noise, fresh)
        self.light = wide(prompted) * flow.seed_light(noise, directions)
        self.s = flow.draw_sigmas(count, generator=generator)
        share = flow.draw_shares(count, generator=generator)
        share = torch.where(pairs.painted, 1.0, share)  # without a photo a stream starts from noise alone
        target = target + self.light
        self.wanted = flow.goal(pairs.content, target, share, self.s)
        self.x_s = flow.noisy(flow.mixture(pairs.content, target, share), noise, self.s)
        grain = torch.rand(count, 1, 1, 1, device=device, generator=generator)
        grain = JITTER * grain * torch.randn(target.shape, device=device, generator=generator)
        self.content = torch.where(wide(pairs.painted), 0.0, pairs.content + grain)


def random_windows(tensors: list[Tensor], side: int, window: int, generator: torch.Generator) -> list[Tensor]:
    """The same random part of `window` pixels of each sample, out of latents [B, C, h, w] and uint8 pictures [B, side, side, 3]."""
    free, cells = (side - window) // 8 + 1, window // 8
    if free == 1:
        return tensors
    corners = torch.randint(free, (len(tensors[0]), 2), device=tensors[0].device, generator=generator)
    found = []
    for tensor in tensors:
        if tensor.dtype == torch.uint8:
            found.append(windows(tensor.permute(0, 3, 1, 2), 8 * corners, window).permute(0, 2, 3, 1))
        else:
            found.append(windows(tensor, corners, cells))
    return found


def windows(pictures: Tensor, corners: Tensor, side: int) -> Tensor:
    """[B, C, side, side] of pictures [B, C, H, W], each from its own corner, of `corners` int64 [B, 2]."""
    along = torch.arange(side, device=pictures.device)
    rows, columns = (corners[:, axis, None] + along for axis in (0, 1))
    samples = torch.arange(len(pictures), device=pictures.device)[:, None, None]
    return pictures[samples, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def wide(flags: Tensor) -> Tensor:
    """[B] as [B, 1, 1, 1]."""
    return flags[:, None, None, None]
