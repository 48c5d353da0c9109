"""What the NDI library may be shown of a picture: checks and padding, numpy only, no NDI."""

from __future__ import annotations

import numpy as np

from engine.frames import PixelFormat, Pixels

LEAST_SIDE = 32
"""Below 32 pixels a side the binding reports wrong shapes and some pictures never arrive."""


class PictureRefused(ValueError):
    """A picture that must not reach, or must not be read from, the NDI library."""


def check_picture(pixels: Pixels, pixel_format: PixelFormat) -> None:
    """Raise PictureRefused unless `pixels` is uint8, C-contiguous, [H, W, channels], H and W >= 32.

    The binding silently casts other types (0.5 becomes 0) and trusts the channel count it is told,
    reading past the end of a smaller array.
    """
    if pixels.dtype != np.uint8:
        raise PictureRefused(f"an NDI picture is uint8, this one is {pixels.dtype}: convert it before sending")
    if pixels.ndim != 3 or pixels.shape[2] != pixel_format.channels:
        raise PictureRefused(f"a {pixel_format.name} picture is [H, W, {pixel_format.channels}], not {pixels.shape}")
    if min(pixels.shape[:2]) < LEAST_SIDE:
        height, width = pixels.shape[:2]
        raise PictureRefused(f"{width}x{height} is too small for NDI: use at least {LEAST_SIDE}x{LEAST_SIDE}")
    if pixel_format is PixelFormat.UYVY and pixels.shape[1] % 2:
        raise PictureRefused(f"a UYVY picture has an even width, not {pixels.shape[1]}")
    if not pixels.flags.c_contiguous:
        raise PictureRefused("an NDI picture is C-contiguous: copy it before sending")


def even_shape(pixels: Pixels) -> tuple[int, int, int]:
    """[H, W, channels] with H and W rounded up to even: NDI would cut an odd row or column off."""
    height, width, channels = pixels.shape
    return height + height % 2, width + width % 2, channels


def copy_to_even(pixels: Pixels, into: Pixels) -> None:
    """Copy into an array of `even_shape(pixels)`; an added column or row repeats the last one."""
    height, width = pixels.shape[:2]
    into[:height, :width] = pixels
    into[:height, width:] = pixels[:, -1:]
    into[height:] = into[height - 1 : height]


def padded_to_even(pixels: Pixels) -> Pixels:
    """The picture itself if both sides are even, else a padded copy."""
    shape = even_shape(pixels)
    if shape == pixels.shape:
        return pixels
    padded = np.empty(shape, dtype=np.uint8)
    copy_to_even(pixels, padded)
    return padded
