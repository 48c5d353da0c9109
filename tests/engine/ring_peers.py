"""What other processes do to a ring in the tests: importable, as `spawn` needs it."""

from __future__ import annotations

import os
import random
import time

import numpy as np

from engine.frames import PixelFormat
from engine.shared_frames import RingHandle, RingWriter

SHADES = 251
"""A prime: neighbours in a ring of any size differ."""


def hammer(handle: RingHandle, first_index: int, count: int, seed: int) -> None:
    """Write `count` frames of one shade each (index modulo SHADES), of changing size and format, as fast as it goes."""
    writer, dice = RingWriter(handle), random.Random(seed)
    for index in range(first_index, first_index + count):
        format = dice.choice(list(PixelFormat))
        width, height = 2 * dice.randint(1, 120), dice.randint(1, 240)
        pixels = np.full((height, width, format.channels), index % SHADES, np.uint8)
        writer.put(format, pixels, time.monotonic(), index)


def die_while_writing(handle: RingHandle) -> None:
    """Begin a frame, write half of it, and be gone."""
    pixels = RingWriter(handle).begin(PixelFormat.BGRA, 100, 100)
    pixels[:50] = 99
    os._exit(9)
