"""How much a frame resembles the one before, and whether it may be skipped (on the host, from frame bytes; no torch).

The decision falls before anything is uploaded, so a skipped frame costs the device nothing. Likeness is measured by
difference and not by angle: a cosine takes every pair of evenly grey pictures for equal.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.frames import PixelFormat, Pixels

Thumbnail = NDArray[np.float32]

SIDE = 64
ROWS_READ = 2 * SIDE
"""Rows of a frame that are looked at: enough to see a thing of a hundredth of the height, cheap at any size."""


def thumbnail(pixels: Pixels, format: PixelFormat) -> Thumbnail:
    """float32 [64, 64, C] in [0, 1]: the picture in small, blue green red, and alpha where it means something.

    pixels: uint8 [H, W, format.channels]. All columns of about 128 rows are averaged.
    """
    rows = pixels[(max(1, pixels.shape[0] // ROWS_READ) - 1) // 2 :: max(1, pixels.shape[0] // ROWS_READ)]
    if format is PixelFormat.UYVY:
        pairs = rows.reshape(rows.shape[0], rows.shape[1] // 2, 4)
        return _from_uyvy(_shrink(pairs))
    small = _shrink(rows) * np.float32(1 / 255)
    return np.ascontiguousarray(small if format is PixelFormat.BGRA else small[..., :3])


def likeness(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """1 - the rms difference of two thumbnails in the channel that differs the most: 1 if equal, 0 for black and white.

    a, b: [H, W, C] in [0, 1]. Thumbnails of different shape (alpha came or went) are unlike: 0.
    """
    if a.shape != b.shape:
        return 0.0
    squares = np.square(a.astype(np.float64) - b.astype(np.float64))
    return 1.0 - float(np.sqrt(squares.mean(axis=(0, 1)).max()))


def skip_probability(likeness: float, threshold: float) -> float:
    """(S - eta) / (1 - eta) clamped to [0, 1]: 0 up to the threshold eta, 1 for equal frames; eta >= 1 never skips."""
    if threshold >= 1.0:
        return 0.0
    return min(max((likeness - threshold) / (1.0 - threshold), 0.0), 1.0)


class SimilarityFilter:
    """Decides frame by frame what is worth computing. State: the last admitted thumbnail and the skips since then."""

    def __init__(self) -> None:
        self._reference: Thumbnail | None = None
        self._in_a_row = 0
        self.skipped = 0

    def admit(self, thumbnail: Thumbnail, *, threshold: float, max_skip: int, draw: float) -> bool:
        """False if the frame may be skipped.

        threshold: likeness from which frames may be skipped. max_skip: skips in a row before a frame passes all the
        same. draw: a random number in [0, 1), given by the caller so that a seed decides it.
        """
        if self._reference is not None and self._in_a_row < max_skip:
            chance = skip_probability(likeness(thumbnail, self._reference), threshold)
            if draw < chance:
                self._in_a_row += 1
                self.skipped += 1
                return False
        self._reference = thumbnail
        self._in_a_row = 0
        return True

    def reset(self) -> None:
        """Forget the reference: the next frame is admitted."""
        self._reference = None
        self._in_a_row = 0


def _shrink(rows: Pixels) -> NDArray[np.float32]:
    small = cv2.resize(rows, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.float32)


def _from_uyvy(small: NDArray[np.float32]) -> Thumbnail:
    """[64, 64, 3] blue green red in [0, 1] of the mean U, Y0, V, Y1 bytes of each place (BT.709 limited range)."""
    luma = ((small[..., 1] + small[..., 3]) * 0.5 - 16.0) / 219.0
    cb, cr = (small[..., 0] - 128.0) / 224.0, (small[..., 2] - 128.0) / 224.0
    blue, red = luma + 1.8556 * cb, luma + 1.5748 * cr
    green = (luma - 0.0722 * blue - 0.2126 * red) / 0.7152
    colours: Thumbnail = np.stack((blue, green, red), axis=-1).astype(np.float32)
    return np.clip(colours, 0.0, 1.0)
