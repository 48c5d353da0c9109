"""Small motions of pictures, for teaching the networks that a look moves with what it lies on instead of flickering over it."""

import torch
import torch.nn.functional as F
from torch import Tensor

SHIFT = 4.0 / 256  # of the side: standard deviation of the shift
TURN, ZOOM = 0.012, 0.015  # standard deviations of the angle in radians and of the logarithm of the size
GRAIN = 0.012  # of a range of 2: camera noise that differs from frame to frame


def small_motions(count: int, *, generator: torch.Generator) -> Tensor:
    """Random shifts, turns and zooms as affine matrices [count, 2, 3], in coordinates from -1 to 1."""
    device = generator.device
    shift, rest = (torch.randn(count, 2, device=device, generator=generator) for _ in range(2))
    angle, size = TURN * rest[:, 0], torch.exp(ZOOM * rest[:, 1])
    cosine, sine = size * torch.cos(angle), size * torch.sin(angle)
    rows = torch.stack([torch.stack([cosine, -sine], dim=1), torch.stack([sine, cosine], dim=1)], dim=1)
    return torch.cat([rows, 2 * SHIFT * shift[:, :, None]], dim=2)


def places_of(motions: Tensor, side: int) -> Tensor:
    """Where each pixel [B, side, side, 2] of a moved square picture comes from."""
    return F.affine_grid(motions, [len(motions), 3, side, side], align_corners=False)


def moved(pictures: Tensor, places: Tensor, *, mode: str = "bilinear") -> Tensor:
    """Pictures [B, C, H, W] read at `places` [B, H, W, 2]; the border is mirrored."""
    return F.grid_sample(pictures, places, mode=mode, padding_mode="reflection", align_corners=False)


def unsteadiness(earlier: Tensor, later: Tensor, places: Tensor) -> Tensor:
    """Mean absolute difference of `later` [B, C, H, W] and `earlier` moved along, where both show the same place."""
    inside = (places.abs() < 1).all(dim=-1)[:, None].float()
    difference = (moved(earlier, places) - later).abs() * inside
    return difference.sum() / (inside.sum() * earlier.shape[1]).clamp(min=1)
