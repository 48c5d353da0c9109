"""One picture with its time: the frame and the three byte layouts it may have."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


class PixelFormat(enum.Enum):
    """Byte layout of a frame. The number is what crosses shared memory."""

    BGRA = 1
    """[H, W, 4], straight alpha that means something."""
    BGRX = 2
    """[H, W, 4], the fourth byte means nothing: the picture is opaque."""
    UYVY = 3
    """[H, W, 2], 4:2:2 in BT.709 limited range, W even."""

    @property
    def channels(self) -> int:
        """Bytes a pixel."""
        return 2 if self is PixelFormat.UYVY else 4


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture.

    pixels: uint8, C-contiguous, [H, W, format.channels]. Who receives a frame must not write to it.
    captured_at: monotonic seconds (time.monotonic) of the moment the picture was taken.
    index: counts the frames of one source, from 0.
    """

    pixels: Pixels
    format: PixelFormat
    captured_at: float
    index: int

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.shape[2] != self.format.channels:
            raise ValueError(f"a {self.format.name} frame is [H, W, {self.format.channels}], not {self.pixels.shape}")

    @property
    def width(self) -> int:
        """Pixels a row."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[0])
