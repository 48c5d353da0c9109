"""The stand-in pictures: sizes, shapes and colours."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.fallback import InputTap, black, copied, fitted
from engine.control.live_values import LiveValues
from engine.frames import Frame, PixelFormat, Pixels


def bars(width: int, height: int) -> Frame:
    """Left half blue 200, right half red 200, opaque."""
    pixels = np.zeros((height, width, 4), dtype=np.uint8)
    pixels[:, : width // 2, 0] = 200
    pixels[:, width // 2 :, 2] = 200
    pixels[..., 3] = 255
    return Frame(pixels=pixels, format=PixelFormat.BGRX, captured_at=3.0, index=4)


def is_near(pixels: Pixels, colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(pixels[..., :3].astype(int) - colour).max() <= 3)


@pytest.mark.parametrize("fit", ["fill", "fit", "letterbox", "stretch"])
@pytest.mark.parametrize("size", [(64, 64), (128, 32), (37, 61), (256, 256)])
def test_every_way_gives_the_size_and_keeps_the_time(fit: str, size: tuple[int, int]) -> None:
    frame = fitted(bars(128, 64), size, fit)
    assert (frame.width, frame.height) == size
    assert (frame.captured_at, frame.index, frame.format) == (3.0, 4, PixelFormat.BGRX)
    assert frame.pixels.flags.c_contiguous and (frame.pixels[..., 3] == 255).all()


def test_fill_crops_stretch_distorts_letterbox_adds_bars() -> None:
    source = bars(128, 64)
    for fit, top in (("fill", (200, 0, 0)), ("stretch", (200, 0, 0)), ("letterbox", (0, 0, 0))):
        pixels = fitted(source, (64, 64), fit).pixels
        assert is_near(pixels[:8, :24], top), fit
        assert is_near(pixels[28:36, 4:24], (200, 0, 0)) and is_near(pixels[28:36, 40:60], (0, 0, 200)), fit


def test_fill_takes_the_middle() -> None:
    pixels = np.zeros((64, 192, 4), dtype=np.uint8)
    pixels[:, 64:128] = 255  # only the middle third is white
    source = Frame(pixels=pixels, format=PixelFormat.BGRX, captured_at=0.0, index=0)
    assert is_near(fitted(source, (64, 64), "fill").pixels, (255, 255, 255))


@pytest.mark.parametrize(
    ("yuv", "bgr"),
    [((16, 128, 128), (0, 0, 0)), ((235, 128, 128), (255, 255, 255)), ((63, 102, 240), (0, 0, 255)), ((32, 240, 118), (255, 0, 0))],
)
def test_uyvy_is_bt709_limited(yuv: tuple[int, int, int], bgr: tuple[int, int, int]) -> None:
    y, cb, cr = yuv
    pixels = np.empty((32, 32, 2), dtype=np.uint8)
    pixels[:, 0::2], pixels[:, 1::2] = (cb, y), (cr, y)
    frame = fitted(Frame(pixels=pixels, format=PixelFormat.UYVY, captured_at=0.0, index=0), (32, 32), "fill")
    assert is_near(frame.pixels, bgr) and frame.format is PixelFormat.BGRX


def test_black_is_opaque_black() -> None:
    frame = black((20, 10), 1.5, 9)
    assert (frame.width, frame.height, frame.captured_at, frame.index) == (20, 10, 1.5, 9)
    assert (frame.pixels == np.array([0, 0, 0, 255])).all()


def test_a_copy_owns_its_pixels() -> None:
    frame = bars(16, 16)
    copy = copied(frame)
    frame.pixels[:] = 7
    assert is_near(copy.pixels[:, :8], (200, 0, 0))


def test_the_tap_copies_only_while_the_input_is_the_fallback() -> None:
    values = LiveValues()
    tap, frame = InputTap(values), bars(16, 16)
    tap.put(frame.format, frame.pixels, 1.0, 0)
    assert tap.take() is None
    values.set("fallback", "input")
    tap.put(frame.format, frame.pixels, 2.0, 1)
    frame.pixels[:] = 7
    taken = tap.take()
    assert taken is not None and taken.index == 1 and is_near(taken.pixels[:, :8], (200, 0, 0))
    assert tap.take() is None
