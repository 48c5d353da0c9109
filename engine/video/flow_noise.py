"""Noise that moves with the picture and stays white: Go-with-the-Flow (Burgert et al. 2025) on the grid of the latents.

Pure. Meant for tensors on the host, where noise is drawn and flow is found: its sums have a fixed order there, so seeds reproduce.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

EXPLAINED = 0.5
"""A place that the motion explains less than this (0 to 1) gets fresh noise."""
DRAWS = 2
"""Independent noises that `carried` asks for: one a way forward, one a way back or a hole."""


def carried(last: Tensor, fresh: Tensor, motion: Tensor | None, *, forward: Tensor | None = None) -> Tensor:
    """`last` moved along with the picture: standard normal and white if `last` and `fresh` are.

    last: float32 [B, C, h, w]. fresh: [DRAWS, B, C, h, w], independent of `last`. motion: [3, H, W] as `engine.images.flow.motion`
    gives it: from where each place of the new picture came (offsets, shares of the size) and how well that explains it; None is
    another scene. forward: the same from the old picture's side: to where each of its places went.
    """
    if motion is None:
        return fresh[0]
    grid = (last.shape[-2], last.shape[-1])
    to_where = None if forward is None else places(forward, *grid)
    return warp(last, fresh, from_where=places(motion, *grid), to_where=to_where)


def places(motion: Tensor, height: int, width: int) -> Tensor:
    """int64 [height * width]: the place (row-major) that each place points to; -1 outside the picture or unexplained.

    motion: float32 [3, H, W], averaged to the grid: x and y offsets as shares of width and height, explained 0 to 1.
    """
    x_offset, y_offset, explained = F.interpolate(motion[None], size=(height, width), mode="area")[0]
    x = (torch.arange(width, device=motion.device) + 0.5 + x_offset * width).floor().long()
    y = ((torch.arange(height, device=motion.device) + 0.5)[:, None] + y_offset * height).floor().long()
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (explained >= EXPLAINED)
    return torch.where(inside, y * width + x, -1).flatten()


def warp(last: Tensor, fresh: Tensor, *, from_where: Tensor, to_where: Tensor | None = None) -> Tensor:
    """Noise [B, C, h, w] sent along the edges of a graph of places, by nearest neighbour.

    A place whose noise n goes to c places sends each n / sqrt(c) + z - mean(z) with fresh z, one an edge: c independent standard
    normals whose sum is sqrt(c) n. A place that k edges reach takes their sum / sqrt(k). Every edge starts and ends once, so the
    result is white again. Edges: `to_where` (the paper's contraction), and `from_where` for places that none of these reaches (its
    expansion); what still gets nothing is fresh.

    fresh: [2, B, C, h, w]. from_where, to_where: int64 [h * w] as `places` gives them.
    """
    n = from_where.numel()
    noise, z_forward, z_back = (part.reshape(-1, n) for part in (last, fresh[0], fresh[1]))
    targets = torch.full_like(from_where, -1) if to_where is None else to_where
    arrivals = _count(targets, n)
    sources = torch.where(arrivals == 0, from_where, -1)
    leaving = (targets >= 0).to(noise.dtype) + _count(sources, n)

    mean = (torch.where(targets >= 0, z_forward, 0.0) + _gather_sum(z_back, sources, n)) / leaving.clamp(min=1.0)
    share = noise / leaving.clamp(min=1.0).sqrt()
    ahead = _gather_sum(share + (z_forward - mean), targets, n) / arrivals.clamp(min=1.0).sqrt()
    source = sources.clamp(min=0)
    back = share[:, source] + (z_back - mean[:, source])
    result = torch.where(arrivals > 0, ahead, torch.where(sources >= 0, back, z_back))
    return result.reshape(last.shape)


def _count(pointers: Tensor, n: int) -> Tensor:
    """float32 [n]: how many of the pointers point to each place; -1 to none."""
    return torch.bincount(pointers + 1, minlength=n + 1)[1:].to(torch.float32)


def _gather_sum(values: Tensor, pointers: Tensor, n: int) -> Tensor:
    """[M, n]: at each place the sum of the values [M, n] whose pointer points to it; -1 to none."""
    sums = torch.zeros(values.shape[0], n + 1, dtype=values.dtype, device=values.device)
    return sums.index_add_(1, pointers + 1, values)[:, 1:]
