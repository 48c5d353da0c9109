"""Pictures to another size and shape: plain resizing and the four ways to fit (pure; no pixel formats)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MODES = ("fill", "fit", "letterbox", "stretch")
BLACK = -1.0


def resize(picture: Tensor, width: int, height: int) -> Tensor:
    """picture [B, C, H, W], any float dtype, at [B, C, height, width]; the same size comes back bit for bit.

    Bilinear, antialiased on the way down: weights are never negative, so no value leaves the range of the picture.
    """
    if tuple(picture.shape[-2:]) == (height, width):
        return picture
    exact = picture.to(torch.float32) if picture.dtype in (torch.float16, torch.bfloat16) else picture
    if exact.stride(1) == 1:
        # Interleaved planes are resized ten times slower on the CPU than planes that are first put in order.
        exact = exact.contiguous()
    scaled = F.interpolate(exact, size=(height, width), mode="bilinear", align_corners=False, antialias=True)
    return scaled.to(picture.dtype)


def fit(picture: Tensor, width: int, height: int, mode: str, *, bars: float = BLACK) -> Tensor:
    """picture [B, C, H, W] at [B, C, height, width], by `mode` (ValueError if it is none of MODES).

    fill: covers the whole, what stands over is cut off equally on both sides. fit: the whole picture in the middle,
    the rest drawn out from its edges. letterbox: the same with bars of the value `bars` (-1 is black; for alpha take
    the opacity that the bars shall have). stretch: distorted. The same size comes back bit for bit.
    """
    if mode not in MODES:
        raise ValueError(f"the way to fit is one of {', '.join(MODES)}, not {mode!r}")
    source_height, source_width = int(picture.shape[-2]), int(picture.shape[-1])
    if mode == "fill":
        left, top, crop_width, crop_height = crop_to_shape(source_width, source_height, width, height)
        return resize(picture[..., top : top + crop_height, left : left + crop_width], width, height)
    if mode == "stretch":
        return resize(picture, width, height)
    left, top, inner_width, inner_height = place_inside(source_width, source_height, width, height)
    inner = resize(picture, inner_width, inner_height)
    margins = (left, width - left - inner_width, top, height - top - inner_height)
    if not any(margins):
        return inner
    return F.pad(inner, margins, mode="replicate") if mode == "fit" else F.pad(inner, margins, value=bars)


def crop_to_shape(source_width: int, source_height: int, width: int, height: int) -> tuple[int, int, int, int]:
    """(left, top, width, height) of the largest centred part of the source that has the shape width : height.

    Rounded to whole source pixels, never empty, never outside the source.
    """
    if source_width * height >= source_height * width:
        crop_width = max(1, round(source_height * width / height))
        return (source_width - crop_width) // 2, 0, crop_width, source_height
    crop_height = max(1, round(source_width * height / width))
    return 0, (source_height - crop_height) // 2, source_width, crop_height


def place_inside(source_width: int, source_height: int, width: int, height: int) -> tuple[int, int, int, int]:
    """(left, top, width, height) of the whole source, scaled to touch the borders of width x height and centred."""
    if source_width * height >= source_height * width:
        inner_width, inner_height = width, max(1, round(source_height * width / source_width))
    else:
        inner_width, inner_height = max(1, round(source_width * height / source_height)), height
    return (width - inner_width) // 2, (height - inner_height) // 2, inner_width, inner_height
