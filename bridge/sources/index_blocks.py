"""A frame's index as a row of black and white blocks along the lower edge: drawn into a picture and read from it.

32 blocks over the whole width: white black, 24 bits from the highest, 4 check bits, black white. Places are shares
of the picture, so the row survives scaling; blocks are wide and far apart in brightness, so it survives compression.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.frames import Pixels

BLOCKS = 32
INDEX_LIMIT = 1 << 24
OPENING, CLOSING = (1, 0), (0, 1)
LEAST_CONTRAST = 60.0
"""Levels (of 255) that must lie between black and white for a row to be believed."""


def draw_index(pixels: Pixels, index: int) -> None:
    """Draw the row into uint8 [H, W, 4], in place; the index counts modulo 2^24."""
    height, width = pixels.shape[:2]
    row = np.array(_blocks(index % INDEX_LIMIT), dtype=np.uint8) * 255
    columns = row[((np.arange(width) + 0.5) * BLOCKS / width).astype(np.intp)]
    pixels[_top(height) :, :, :3] = columns[None, :, None]
    pixels[_top(height) :, :, 3] = 255


def read_index(pixels: Pixels) -> int | None:
    """The index drawn into uint8 [H, W, 3 or 4], or None if there is no row, or one that contradicts itself."""
    height, width = pixels.shape[:2]
    if width < BLOCKS or height < 16:
        return None
    levels = _levels(pixels, height, width)
    white, black = (levels[0] + levels[-1]) / 2, (levels[1] + levels[-2]) / 2
    if white - black < LEAST_CONTRAST:
        return None
    shares = (levels - black) / (white - black)
    if np.any(np.abs(shares - 0.5) < 0.2):
        return None
    bits = tuple(int(share > 0.5) for share in shares)
    index = int("".join(str(bit) for bit in bits[2:26]), 2)
    return index if bits == _blocks(index) else None


def _levels(pixels: Pixels, height: int, width: int) -> NDArray[np.float64]:
    """[32] mean brightness of the inner half of each block, in the inner half of the lowest sixteenth of the rows."""
    deep = height / 16
    strip = pixels[round(height - 0.75 * deep) : max(round(height - 0.25 * deep), round(height - 0.75 * deep) + 1), :, :3]
    means = strip.mean(axis=(0, 2))
    middles = np.arange(width) + 0.5
    levels = np.empty(BLOCKS)
    for block in range(BLOCKS):
        place = middles * BLOCKS / width - block
        inner = means[(place >= 0.25) & (place < 0.75)]
        levels[block] = inner.mean() if inner.size else means[int((block + 0.5) * width / BLOCKS)]
    return levels


def _top(height: int) -> int:
    """First row of pixels of the blocks: a sixteenth of the height, at least 6 rows."""
    return height - max(6, height // 16)


def _blocks(index: int) -> tuple[int, ...]:
    bits = tuple(int(digit) for digit in f"{index:024b}")
    check = 0b1010
    for shift in range(0, 24, 4):
        # Rotated by one bit a step, so that two equal mistakes in different places do not cancel out.
        check = ((check << 1 | check >> 3) & 0b1111) ^ (index >> shift & 0b1111)
    return OPENING + bits + tuple(int(digit) for digit in f"{check:04b}") + CLOSING
