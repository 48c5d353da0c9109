"""Preview pictures against the colours that BT.709 and JPEG themselves define, decoded by OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from bridge.web.jpeg import encode_jpeg
from engine.frames import Frame, PixelFormat, Pixels


def decoded(frame: Frame) -> Pixels:
    return cv2.imdecode(np.frombuffer(encode_jpeg(frame), np.uint8), cv2.IMREAD_COLOR)


def frame(pixels: Pixels, layout: PixelFormat) -> Frame:
    return Frame(pixels=pixels, format=layout, captured_at=0.0, index=0)


@pytest.mark.parametrize(
    ("yuv", "bgr"),
    [  # the full-scale colour bars of BT.709 in 8 bits, rounded
        ((235, 128, 128), (255, 255, 255)),
        ((16, 128, 128), (0, 0, 0)),
        ((63, 102, 240), (0, 0, 255)),
        ((173, 42, 26), (0, 255, 0)),
        ((32, 240, 118), (255, 0, 0)),
        ((219, 16, 138), (0, 255, 255)),
    ],
)
def test_uyvy_has_the_colours_of_bt709(yuv: tuple[int, int, int], bgr: tuple[int, int, int]) -> None:
    pixels = np.empty((64, 96, 2), np.uint8)
    pixels[:, :, 1], pixels[:, 0::2, 0], pixels[:, 1::2, 0] = yuv
    picture = decoded(frame(pixels, PixelFormat.UYVY))
    assert picture.shape == (64, 96, 3)
    assert np.abs(picture.astype(int) - bgr).max() <= 4


@pytest.mark.parametrize("rgb", [(180, 120, 90), (60, 140, 200), (120, 160, 80), (100, 100, 100), (200, 90, 160)])
def test_uyvy_inverts_the_equations_of_bt709(rgb: tuple[int, int, int]) -> None:
    """ITU-R BT.709-6, items 3.2 to 3.4 and 4.6: luma, colour differences, and their 8-bit levels."""
    red, green, blue = (level / 255 for level in rgb)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    yuv = (16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748)
    pixels = np.empty((64, 64, 2), np.uint8)
    pixels[:, :, 1], pixels[:, 0::2, 0], pixels[:, 1::2, 0] = (round(level) for level in yuv)
    picture = decoded(frame(pixels, PixelFormat.UYVY)).astype(int)
    assert np.abs(picture - rgb[::-1]).max() <= 4


@pytest.mark.parametrize("layout", [PixelFormat.BGRA, PixelFormat.BGRX])
def test_bgra_keeps_its_colours_and_place(layout: PixelFormat) -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:, :32] = (10, 200, 60, 0)
    picture = decoded(frame(pixels, layout)).astype(int)
    assert np.abs(picture[:, :24] - (10, 200, 60)).max() <= 4
    assert picture[:, 40:].max() <= 4


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [(1920, 1080, (540, 960)), (1080, 1920, (960, 540)), (960, 10, (10, 960)), (4000, 2, (1, 960))],
)
@pytest.mark.parametrize("layout", list(PixelFormat))
def test_the_longest_side_is_960(width: int, height: int, expected: tuple[int, int], layout: PixelFormat) -> None:
    picture = decoded(frame(np.full((height, width, layout.channels), 128, np.uint8), layout))
    assert picture.shape[:2] == expected
