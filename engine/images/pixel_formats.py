"""Frame bytes to RGB tensors in [-1, 1] and back: BGRA, BGRX and UYVY (pure; no resizing, no blending)."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.frames import PixelFormat

# BT.709: luma = KR R + KG G + KB B (Rec. ITU-R BT.709-6, table 3).
KR, KB = 0.2126, 0.0722
KG = 1.0 - KR - KB
LUMA_BLACK, LUMA_SPAN, CHROMA_ZERO, CHROMA_SPAN = 16.0, 219.0, 128.0, 224.0


def to_rgb(pixels: Tensor, format: PixelFormat, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Colour and alpha of frame bytes.

    pixels: uint8 [B, H, W, format.channels], W even for UYVY.
    Returns rgb [B, 3, H, W] in [-1, 1] and alpha [B, 1, H, W] in [0, 1], both of `dtype`; alpha is None unless BGRA.
    Both lie plane by plane in memory. Computed in float32 whatever the dtype, rounded once at the end.
    """
    if pixels.ndim != 4 or pixels.shape[-1] != format.channels:
        raise ValueError(f"{format.name} pixels are [B, H, W, {format.channels}], not {tuple(pixels.shape)}")
    if format is PixelFormat.UYVY:
        return _from_uyvy(pixels).to(dtype), None
    values = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    rgb = (values[:, :3].flip(1) / 127.5 - 1.0).to(dtype)
    return rgb, (values[:, 3:] / 255.0).to(dtype) if format is PixelFormat.BGRA else None


def to_bgra(rgb: Tensor, alpha: Tensor | None = None) -> Tensor:
    """uint8 [B, H, W, 4] of rgb [B, 3, H, W] in [-1, 1] and alpha [B, 1, H, W] in [0, 1] (None: opaque).

    Clamped; rounded half to even; NaN becomes black and transparent.
    """
    colour = _to_bytes(rgb.flip(1).to(torch.float32) * 127.5 + 127.5)
    opacity = torch.full_like(colour[:, :1], 255) if alpha is None else _to_bytes(alpha.to(torch.float32) * 255.0)
    return torch.cat((colour, opacity), dim=1).permute(0, 2, 3, 1).contiguous()


def to_uyvy(rgb: Tensor) -> Tensor:
    """uint8 [B, H, W, 2] in BT.709 limited range of rgb [B, 3, H, W] in [-1, 1], W even (ValueError).

    The chroma of a pair of pixels is the mean of both. With the replication in `to_rgb`, bytes that came in
    as UYVY go out unchanged, so a picture that passes many nodes does not blur. Rounding and NaN as in `to_bgra`.
    """
    batch, _, height, width = rgb.shape
    if width % 2:
        raise ValueError(f"a UYVY picture has an even width, not {width}")
    unit = torch.nan_to_num(rgb.to(torch.float32), nan=-1.0).clamp(-1.0, 1.0) * 0.5 + 0.5
    red, green, blue = unit.unbind(1)
    luma = KR * red + KG * green + KB * blue
    cb = ((blue - luma) / (2 * (1 - KB))).unflatten(-1, (width // 2, 2)).mean(-1)
    cr = ((red - luma) / (2 * (1 - KR))).unflatten(-1, (width // 2, 2)).mean(-1)
    y0, y1 = (luma * LUMA_SPAN + LUMA_BLACK).unflatten(-1, (width // 2, 2)).unbind(-1)
    u, v = cb * CHROMA_SPAN + CHROMA_ZERO, cr * CHROMA_SPAN + CHROMA_ZERO
    return _to_bytes(torch.stack((u, y0, v, y1), dim=-1)).reshape(batch, height, width, 2)


def _from_uyvy(pixels: Tensor) -> Tensor:
    """rgb [B, 3, H, W] float32 in [-1, 1] of uint8 [B, H, W, 2]; both pixels of a pair take its chroma."""
    batch, height, width, _ = pixels.shape
    if width % 2:
        raise ValueError(f"a UYVY picture has an even width, not {width}")
    u, y0, v, y1 = pixels.reshape(batch, height, width // 2, 4).to(torch.float32).unbind(-1)
    luma = (torch.stack((y0, y1), dim=-1).flatten(-2) - LUMA_BLACK) / LUMA_SPAN
    cb, cr = ((c.unsqueeze(-1).expand(*c.shape, 2).flatten(-2) - CHROMA_ZERO) / CHROMA_SPAN for c in (u, v))
    red = luma + 2 * (1 - KR) * cr
    blue = luma + 2 * (1 - KB) * cb
    green = (luma - KR * red - KB * blue) / KG
    return torch.stack((red, green, blue), dim=1).clamp(0.0, 1.0) * 2.0 - 1.0


def _to_bytes(values: Tensor) -> Tensor:
    """Nearest bytes of values in 0..255; NaN becomes 0."""
    return torch.nan_to_num(values, nan=0.0, posinf=255.0, neginf=0.0).clamp(0.0, 255.0).round().to(torch.uint8)
