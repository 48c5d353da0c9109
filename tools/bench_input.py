"""What the benches of images and of video share: pictures that differ, and how lists are written on the command line."""

from __future__ import annotations

import numpy as np

PICTURES = 16


def pictures(width: int, height: int) -> list[np.ndarray]:
    """Smooth pictures that differ, BGRX."""
    y, x = np.mgrid[:height, :width]
    waves = [127 + 120 * np.sin(np.stack([x / 31 + i, y / 23 - i, (x + y) / 41 + i, x * 0.0], axis=-1)) for i in range(PICTURES)]
    return [np.ascontiguousarray(wave.astype(np.uint8)) for wave in waves]


def whole_numbers(text: str) -> list[int]:
    """`1,2,4` as numbers."""
    return [int(part) for part in text.split(",")]


def either(text: str) -> tuple[bool, ...]:
    """on, off or both."""
    return {"on": (True,), "off": (False,), "both": (False, True)}[text]
