"""Frames as BGRA on the host, against the bars of the standard and the tensor functions."""

import numpy as np
import pytest
import torch

from bridge.sinks.colour import as_video_frame, to_bgra
from bridge.sources.test_pattern import Pattern
from engine.frames import Frame, PixelFormat, Pixels
from engine.images.pixel_formats import to_bgra as tensor_to_bgra
from engine.images.pixel_formats import to_rgb, to_uyvy


def frame(pixels: Pixels, format: PixelFormat) -> Frame:
    return Frame(pixels=pixels, format=format, captured_at=0.0, index=0)


# 100 % bars of BT.709 in limited range: (Y, Cb, Cr) and what they look like as (blue, green, red).
@pytest.mark.parametrize(
    ("yuv", "bgr"),
    [
        ((235, 128, 128), (255, 255, 255)),
        ((16, 128, 128), (0, 0, 0)),
        ((63, 102, 240), (0, 0, 255)),
        ((173, 42, 26), (0, 255, 0)),
        ((32, 240, 118), (255, 0, 0)),
    ],
)
@pytest.mark.parametrize("width", [2, 6, 34, 64])
def test_uyvy_bars(yuv: tuple[int, int, int], bgr: tuple[int, int, int], width: int) -> None:
    y, cb, cr = yuv
    pixels = np.tile(np.array([[cb, y], [cr, y]], np.uint8), (4, width // 2, 1))
    result = to_bgra(frame(pixels, PixelFormat.UYVY))
    assert result.shape == (4, width, 4)
    assert np.abs(result[..., :3].astype(int) - bgr).max() <= 2
    assert np.all(result[..., 3] == 255)


def test_it_agrees_with_the_tensor_functions() -> None:
    picture = torch.from_numpy(Pattern(200, 100, 30).picture(20))[None]
    uyvy = to_uyvy(to_rgb(picture, PixelFormat.BGRX, torch.float32)[0])
    tensors = tensor_to_bgra(to_rgb(uyvy, PixelFormat.UYVY, torch.float32)[0])[0].numpy().astype(int)
    host = to_bgra(frame(uyvy[0].numpy(), PixelFormat.UYVY)).astype(int)
    # Chroma is drawn out differently at edges; over the picture the two agree.
    assert abs((host - tensors).mean()) < 0.15
    assert np.abs(host - tensors).mean() < 1.0


def test_alpha_is_kept_or_made_opaque() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 10, 4), dtype=np.uint8)
    kept = to_bgra(frame(pixels, PixelFormat.BGRA))
    assert np.array_equal(kept, pixels) and not np.shares_memory(kept, pixels)
    opaque = to_bgra(frame(pixels, PixelFormat.BGRX))
    assert np.array_equal(opaque[..., :3], pixels[..., :3]) and np.all(opaque[..., 3] == 255)


def test_another_size() -> None:
    even = np.full((60, 80, 4), (10, 100, 200, 255), np.uint8)
    assert np.array_equal(to_bgra(frame(even, PixelFormat.BGRA), size=(33, 17)), even[:17, :33])


def test_the_video_frame_says_its_matrix_and_range() -> None:
    uyvy = as_video_frame(frame(np.full((4, 6, 2), 128, np.uint8), PixelFormat.UYVY))
    assert (int(uyvy.colorspace), int(uyvy.color_range), uyvy.format.name) == (1, 1, "uyvy422")
    bgra = as_video_frame(frame(np.zeros((4, 6, 4), np.uint8), PixelFormat.BGRX))
    assert (int(bgra.color_range), bgra.format.name) == (2, "bgra")
