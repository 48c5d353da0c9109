"""Frame bytes to RGB and back, against closed forms and FFmpeg's own converter."""

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.frames import PixelFormat
from engine.images.pixel_formats import to_bgra, to_rgb, to_uyvy

HALVES_AND_WHOLES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# 100 % colour bars in BT.709 limited range as the standard tabulates them: (red, green, blue) -> (Y, Cb, Cr).
BARS = {
    (1, 1, 1): (235, 128, 128),
    (0, 0, 0): (16, 128, 128),
    (1, 0, 0): (63, 102, 240),
    (0, 1, 0): (173, 42, 26),
    (0, 0, 1): (32, 240, 118),
    (1, 1, 0): (219, 16, 138),
    (0, 1, 1): (188, 154, 16),
    (1, 0, 1): (78, 214, 230),
}


def with_fourth(photo: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(np.dstack((photo, np.full(photo.shape[:2], 255, np.uint8))))[None]


def decibels(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(10 * torch.log10(255**2 / (a.double() - b.double()).square().mean()))


def swscale(pixels: NDArray[np.uint8], source: str, target: str) -> NDArray[np.uint8]:
    """FFmpeg's converter, RGB in full range and YUV in BT.709 limited range."""
    height, width = pixels.shape[:2]
    frame = av.VideoFrame(width, height, source)
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8)[: plane.line_size * height].reshape(height, plane.line_size)
    rows[:, : pixels.shape[2] * width] = pixels.reshape(height, -1)
    ranges = {"bgra": 2, "uyvy422": 1}
    out = frame.reformat(
        format=target,
        src_colorspace=1,
        dst_colorspace=1,
        src_color_range=ranges[source],
        dst_color_range=ranges[target],
        # Bilinear with accurate rounding and full chroma: the fast way is a level too dark.
        interpolation=0x2 | 0x2000 | 0x40000,
    )
    plane = out.planes[0]
    depth = 4 if target == "bgra" else 2
    rows = np.frombuffer(plane, np.uint8)[: plane.line_size * height].reshape(height, plane.line_size)
    return rows[:, : depth * width].reshape(height, width, depth).copy()


@pytest.mark.parametrize("dtype", HALVES_AND_WHOLES)
def test_every_byte_survives_bgra_in_every_dtype(dtype: torch.dtype) -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    pixels = torch.stack((levels, levels.flip(0), levels.roll(50), torch.full_like(levels, 255)), -1)[None, None]
    rgb, alpha = to_rgb(pixels, PixelFormat.BGRX, dtype)
    assert alpha is None
    assert rgb.dtype == dtype and rgb.is_contiguous()
    assert torch.equal(to_bgra(rgb), pixels)


def test_rgb_is_minus_one_to_one_and_red_comes_first() -> None:
    pixels = torch.tensor([[[[0, 51, 255, 51]]]], dtype=torch.uint8)
    rgb, alpha = to_rgb(pixels, PixelFormat.BGRA, torch.float32)
    torch.testing.assert_close(rgb.flatten(), torch.tensor([1.0, -0.6, -1.0]))
    assert alpha is not None
    torch.testing.assert_close(alpha.flatten(), torch.tensor([0.2]))


def test_alpha_ramp_survives() -> None:
    ramp = torch.arange(256, dtype=torch.uint8)
    pixels = torch.stack((ramp, ramp, ramp, ramp), -1)[None, None]
    rgb, alpha = to_rgb(pixels, PixelFormat.BGRA, torch.float32)
    assert torch.equal(to_bgra(rgb, alpha), pixels)


def test_out_of_range_is_clamped_and_nan_is_black() -> None:
    rgb = torch.tensor([5.0, -7.0, float("nan"), float("inf"), float("-inf"), 0.0]).reshape(1, 1, 1, 6).expand(1, 3, 1, 6)
    alpha = torch.tensor([2.0, -1.0, float("nan"), 0.5, 1.0, 0.0]).reshape(1, 1, 1, 6)
    bytes_out = to_bgra(rgb, alpha)
    assert bytes_out[0, 0, :, 0].tolist() == [255, 0, 0, 255, 0, 128]
    assert bytes_out[0, 0, :, 3].tolist() == [255, 0, 0, 128, 255, 0]
    luma = to_uyvy(rgb)[0, 0, :, 1]
    assert luma.tolist() == [235, 16, 16, 235, 16, 126]


def test_rounding_is_half_to_even() -> None:
    alpha = (torch.tensor([0.5, 1.5, 2.5, 3.5]) / 255).reshape(1, 1, 1, 4)
    assert to_bgra(torch.zeros(1, 3, 1, 4), alpha)[0, 0, :, 3].tolist() == [0, 2, 2, 4]


@pytest.mark.parametrize(("colour", "expected"), BARS.items())
def test_colour_bars_have_the_bytes_of_the_standard(colour: tuple[int, int, int], expected: tuple[int, int, int]) -> None:
    rgb = (torch.tensor(colour, dtype=torch.float32) * 2 - 1).reshape(1, 3, 1, 1).expand(1, 3, 2, 4)
    y, cb, cr = expected
    assert to_uyvy(rgb)[0, 1].flatten().tolist() == [cb, y, cr, y] * 2
    back, _ = to_rgb(to_uyvy(rgb), PixelFormat.UYVY, torch.float32)
    assert float((back - rgb).abs().max()) < 0.02


def test_uyvy_is_what_ffmpeg_makes(photo: NDArray[np.uint8]) -> None:
    pixels = with_fourth(photo)
    rgb, _ = to_rgb(pixels, PixelFormat.BGRX, torch.float32)
    ours = to_uyvy(rgb)[0]
    theirs = torch.from_numpy(swscale(pixels[0].numpy(), "bgra", "uyvy422"))
    difference = (ours.int() - theirs.int()).abs()
    assert int(difference[..., 1].max()) <= 1, "luma"
    assert decibels(ours, theirs) > 48.0


def test_rgb_is_what_ffmpeg_makes_of_uyvy(photo: NDArray[np.uint8]) -> None:
    uyvy = swscale(with_fourth(photo)[0].numpy(), "bgra", "uyvy422")
    rgb, _ = to_rgb(torch.from_numpy(uyvy)[None], PixelFormat.UYVY, torch.float32)
    ours, theirs = to_bgra(rgb)[0, ..., :3], torch.from_numpy(swscale(uyvy, "uyvy422", "bgra"))[..., :3]
    assert decibels(ours, theirs) > 45.0
    assert abs(float(ours.float().mean() - theirs.float().mean())) < 0.1


def test_round_trip_through_uyvy_keeps_the_picture(photo: NDArray[np.uint8]) -> None:
    pixels = with_fourth(photo)
    rgb, _ = to_rgb(pixels, PixelFormat.BGRX, torch.float32)
    back, _ = to_rgb(to_uyvy(rgb), PixelFormat.UYVY, torch.float32)
    assert decibels(to_bgra(back)[..., :3], pixels[..., :3]) >= 38.0


def test_uyvy_bytes_come_back_unchanged(photo: NDArray[np.uint8]) -> None:
    rgb, _ = to_rgb(with_fourth(photo), PixelFormat.BGRX, torch.float32)
    once = to_uyvy(rgb)
    again, _ = to_rgb(once, PixelFormat.UYVY, torch.float32)
    assert torch.equal(to_uyvy(again), once)


@pytest.mark.parametrize("width", [3, 1])
def test_an_odd_width_has_no_uyvy(width: int) -> None:
    with pytest.raises(ValueError, match="even width"):
        to_uyvy(torch.zeros(1, 3, 2, width))
    with pytest.raises(ValueError, match="even width"):
        to_rgb(torch.zeros(1, 2, width, 2, dtype=torch.uint8), PixelFormat.UYVY, torch.float32)


def test_wrong_channels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[B, H, W, 2\]"):
        to_rgb(torch.zeros(1, 2, 2, 4, dtype=torch.uint8), PixelFormat.UYVY, torch.float32)


@pytest.mark.parametrize("format", PixelFormat)
def test_nothing_is_read_back_from_the_device(format: PixelFormat) -> None:
    """A meta tensor has no values: reading one, or deciding by one, would raise."""
    pixels = torch.empty(1, 8, 8, format.channels, dtype=torch.uint8, device="meta")
    rgb, alpha = to_rgb(pixels, format, torch.float16)
    assert (rgb.shape, to_bgra(rgb, alpha).shape, to_uyvy(rgb).shape) == ((1, 3, 8, 8), (1, 8, 8, 4), (1, 8, 8, 2))
