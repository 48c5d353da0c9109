"""A picture moved by optical flow, and the next one blended with it (pure tensor functions)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

ABSURD = 1e3
"""No picture in [-1, 1] has a value beyond this, however far a decoder overshoots."""


def moved(picture: Tensor, flow: Tensor) -> Tensor:
    """`picture` [B, C, H, W] at every place displaced by `flow`, bilinearly; beyond the edge the edge goes on.

    flow: float [B, 2, H, W], x as a share of the width and y of the height; both of one float dtype, float32 for exact places.
    """
    height, width = picture.shape[-2:]
    x = (torch.arange(width, device=flow.device, dtype=flow.dtype) * 2 + 1) / width - 1
    y = (torch.arange(height, device=flow.device, dtype=flow.dtype) * 2 + 1) / height - 1
    grid = torch.stack((x + 2 * flow[:, 0], y[:, None] + 2 * flow[:, 1]), dim=-1)
    return F.grid_sample(picture, grid, mode="bilinear", padding_mode="border", align_corners=False)


def blend_moved(new: Tensor, last: Tensor, motion: Tensor) -> Tensor:
    """new + a (last moved by the motion - new): where a is 0, `new` bit for bit.

    new, last: float32 [B, 3, H, W]. motion: float32 [B, 3, h, w], flow as in `moved` and a in [0, 1], drawn out to the size of the
    pictures. What of `last` is no number within reason is replaced by `new`: a loop would otherwise keep it for ever.
    """
    if motion.shape[-2:] != new.shape[-2:]:
        motion = F.interpolate(motion, size=tuple(new.shape[-2:]), mode="bilinear", align_corners=False)
    before = moved(last, motion[:, :2])
    # One comparison for NaN, infinity and what runs away; asking isfinite takes several times as long on a CPU.
    return torch.lerp(new, torch.where(before.abs() <= ABSURD, before, new), motion[:, 2:])
