"""The pictures that stand in for the engine's: black, and the newest input brought to the output size."""

from __future__ import annotations

import numpy as np

from engine.control.live_values import LiveValues
from engine.frames import Frame, PixelFormat, Pixels
from engine.latest import Latest


class InputTap:
    """Keeps a copy of the newest source frame, but only while the `fallback` parameter asks for the input."""

    def __init__(self, values: LiveValues) -> None:
        self._values = values
        self._newest: Latest[Frame] = Latest()

    def put(self, format: PixelFormat, pixels: Pixels, captured_at: float, index: int) -> None:
        """Offer a source frame, pixels [H, W, format.channels]; copied here if it is wanted at all."""
        if self._values.get("fallback") == "input":
            self._newest.put(Frame(pixels=np.array(pixels), format=format, captured_at=captured_at, index=index))

    def take(self) -> Frame | None:
        """The newest source frame, handed out once; None if none came since."""
        return self._newest.take()


def black(size: tuple[int, int], captured_at: float, index: int) -> Frame:
    """An opaque black BGRX frame of (width, height)."""
    pixels = np.zeros((size[1], size[0], 4), dtype=np.uint8)
    pixels[..., 3] = 255
    return Frame(pixels=pixels, format=PixelFormat.BGRX, captured_at=captured_at, index=index)


def copied(frame: Frame) -> Frame:
    """The same frame with pixels of its own."""
    return Frame(pixels=frame.pixels.copy(), format=frame.format, captured_at=frame.captured_at, index=frame.index)


def fitted(frame: Frame, size: tuple[int, int], fit: str) -> Frame:
    """The frame at (width, height) as four bytes a pixel, by the rules of the `fit` parameter.

    `fill` crops, `stretch` distorts, the others show the whole picture with black bars.
    """
    from bridge.sinks.colour import to_bgra
    from bridge.sinks.recorder import letterbox

    if fit == "fill":
        pixels = _filling(frame, size)
    elif fit == "stretch":
        pixels = to_bgra(frame, size=size)
    else:
        pixels = letterbox(frame, *size)
    format = PixelFormat.BGRX if frame.format is PixelFormat.UYVY else frame.format
    return Frame(pixels=pixels, format=format, captured_at=frame.captured_at, index=frame.index)


def _filling(frame: Frame, size: tuple[int, int]) -> Pixels:
    """The middle of the picture, [height, width, 4]: as large as it can be without bars."""
    from bridge.sinks.colour import to_bgra

    scale = max(size[0] / frame.width, size[1] / frame.height)
    inner = (max(size[0], round(frame.width * scale)), max(size[1], round(frame.height * scale)))
    left, top = (inner[0] - size[0]) // 2, (inner[1] - size[1]) // 2
    return np.ascontiguousarray(to_bgra(frame, size=inner)[top : top + size[1], left : left + size[0]])
