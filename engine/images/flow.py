"""How the input moved from one frame to the next, and where that explains it (on the host, from frame bytes; no tensors).

Luminance of at most 256 pixels a side is enough: who blends by the motion needs it smooth and quick, not sharp.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.frames import PixelFormat, Pixels
from engine.images.resize import crop_to_shape, place_inside

Motion = NDArray[np.float32]
"""[3, h, w]: where a place of the later picture was in the earlier one, as an offset (x of the width, y of the height), and how
well that explains it: 1 wholly, 0 not at all."""

SIDE, LEAST_SIDE = 256, 32
EXPLAINED, UNEXPLAINED = 6.0, 20.0
"""Mean difference around a place, of 255, up to which the earlier picture explains it wholly, and from which not at all. The
noise of a webcam makes about 2."""
WINDOW = 5
"""Pixels a side over which the difference is averaged: noise averages out, a moved edge does not."""
CUT = 0.5
"""Less explained than this on the mean is another scene: what agrees with it agrees by chance. Unrelated pictures reach 0.2, quick
motion seldom less than 0.8."""


def luminance(pixels: Pixels, format: PixelFormat, width: int, height: int, mode: str) -> Pixels:
    """uint8 [h, w]: the luminance of a frame fitted to width x height by `mode` as in `resize.fit`, then at most 256 a side.

    pixels: uint8 [H, W, format.channels].
    """
    scale = min(1.0, SIDE / max(width, height))
    small_width, small_height = (max(min(LEAST_SIDE, side), round(side * scale)) for side in (width, height))
    source_height, source_width = pixels.shape[:2]
    left, top, crop_width, crop_height = 0, 0, source_width, source_height
    x, y, inner_width, inner_height = 0, 0, small_width, small_height
    if mode == "fill":
        left, top, crop_width, crop_height = crop_to_shape(source_width, source_height, width, height)
    elif mode != "stretch":
        at_model = place_inside(source_width, source_height, width, height)
        x, inner_width = (round(at * small_width / width) for at in at_model[::2])
        y, inner_height = (round(at * small_height / height) for at in at_model[1::2])
        inner_width, inner_height = max(1, min(inner_width, small_width - x)), max(1, min(inner_height, small_height - y))
    seen = pixels[top : top + crop_height, left : left + crop_width]
    inner = _grey(seen, format, inner_width, inner_height)
    if (inner_width, inner_height) == (small_width, small_height):
        return inner
    border = cv2.BORDER_REPLICATE if mode == "fit" else cv2.BORDER_CONSTANT
    margins = (y, small_height - y - inner_height, x, small_width - x - inner_width)
    return np.asarray(cv2.copyMakeBorder(inner, *margins, border), np.uint8)


def motion(now: Pixels, before: Pixels) -> Motion | None:
    """From where everything in `now` came, both uint8 [h, w]; None if it is another scene.

    Dense inverse search (Kroeger et al. 2016, "Fast optical flow using dense inverse search") as OpenCV has it. A place is
    explained if its surroundings look as they did where they came from, and if that was inside the picture.
    """
    height, width = now.shape
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    flow = np.asarray(search.calc(now, before, None), np.float32)
    x, y = flow[..., 0] + np.arange(width, dtype=np.float32), flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    moved = cv2.remap(before, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    unlike = cv2.blur(cv2.absdiff(now, moved).astype(np.float32), (WINDOW, WINDOW))
    explained = np.clip((UNEXPLAINED - unlike) / (UNEXPLAINED - EXPLAINED), 0.0, 1.0)
    # Half a pixel over the edge is still the last pixel.
    explained *= (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    if explained.mean() < CUT:
        return None
    return np.stack((flow[..., 0] / width, flow[..., 1] / height, explained)).astype(np.float32)


def _grey(seen: Pixels, format: PixelFormat, width: int, height: int) -> Pixels:
    """uint8 [height, width], 0 to 255, of uint8 [H, W, C]."""
    # One channel is shrunk several times as fast as four.
    grey = cv2.extractChannel(seen, 1) if format is PixelFormat.UYVY else cv2.cvtColor(seen, cv2.COLOR_BGRA2GRAY)
    # OpenCV's area is none on the way up, so that way goes by itself.
    shrunk = cv2.resize(grey, (min(width, grey.shape[1]), min(height, grey.shape[0])), interpolation=cv2.INTER_AREA)
    small = shrunk if shrunk.shape == (height, width) else cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR)
    if format is PixelFormat.UYVY:
        small = cv2.convertScaleAbs(cv2.subtract(small, 16.0), alpha=255 / 219)
    return np.asarray(small, np.uint8)
