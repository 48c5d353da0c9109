"""The mesh that a decoder of latents can lay over pictures: what repeats from one latent cell to the next."""

import torch
import torch.nn.functional as F
from torch import Tensor

CELL = 8  # pixels of a latent cell
SPAN = 6  # cells over which a pattern repeats that the eye takes for a mesh


def mesh(pictures: Tensor) -> Tensor:
    """[B, N]: root mean square of the pattern that repeats with the latent cells, in N places of pictures [B, 3, H, W] each.

    A texture of its own hardly repeats with that very period, and light and slopes are taken off before. ValueError below 55 pixels, where
    no place is large enough.
    """
    size = CELL * SPAN
    fine = pictures[:, :, CELL // 2 : 1 - CELL // 2, CELL // 2 : 1 - CELL // 2] - F.avg_pool2d(pictures, CELL, stride=1)
    if min(fine.shape[2:]) < size:
        raise ValueError(f"a mesh is looked for in pictures of {size + CELL - 1} pixels or more, not of {tuple(pictures.shape[2:])}")
    rows, columns = fine.shape[2] // size, fine.shape[3] // size
    cells = fine[:, :, : rows * size, : columns * size].unflatten(3, (columns, SPAN, CELL)).unflatten(2, (rows, SPAN, CELL))
    pattern = cells.mean(dim=(3, 6))  # over the cells of a place: [B, 3, rows, CELL, columns, CELL]
    pattern = pattern - pattern.mean(dim=(3, 5), keepdim=True)  # the surroundings lie half a pixel aside: a slope leaves an even rest
    return (pattern.square().mean(dim=(1, 3, 5)) + 1e-8).sqrt().flatten(1)


def more_mesh(made: Tensor, wanted: Tensor) -> Tensor:
    """How much more of a mesh there is in `made` than in `wanted`, pictures [B, 3, H, W] in [-1, 1]: one number."""
    with torch.no_grad():
        right = mesh(wanted)
    return F.relu(mesh(made) - right).mean()
