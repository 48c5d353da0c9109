"""Resizing and fitting, against closed forms, OpenCV and Pillow."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from engine.images.resize import BLACK, MODES, crop_to_shape, fit, place_inside, resize

sides = st.integers(1, 400)


def planes(photo: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(photo.astype(np.float32)).permute(2, 0, 1)[None]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_same_size_is_the_identity(mode: str, dtype: torch.dtype) -> None:
    picture = torch.randn(2, 3, 37, 53, generator=torch.Generator().manual_seed(1)).to(dtype)
    assert torch.equal(fit(picture, 53, 37, mode), picture)


def test_half_size_weights_are_the_triangle() -> None:
    """One white column at an inner place: a halving triangle filter spreads it as 1/8, 3/8, 3/8, 1/8."""
    picture = torch.zeros(1, 1, 4, 16)
    picture[..., 7] = 1.0
    assert resize(picture, 8, 4)[0, 0, 0].tolist() == pytest.approx([0, 0, 0, 3 / 8, 1 / 8, 0, 0, 0])


@pytest.mark.parametrize("size", [(640, 480), (500, 333)])
def test_larger_is_what_opencv_makes(photo: NDArray[np.uint8], size: tuple[int, int]) -> None:
    theirs = cv2.resize(photo.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    ours = resize(planes(photo), *size)[0].permute(1, 2, 0).numpy()
    assert np.abs(ours - theirs).max() < 0.05


@pytest.mark.parametrize("size", [(160, 120), (97, 101), (33, 200), (11, 7)])
def test_smaller_is_what_pillow_makes(photo: NDArray[np.uint8], size: tuple[int, int]) -> None:
    theirs = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BILINEAR), np.float32)
    ours = resize(planes(photo), *size)[0].permute(1, 2, 0).numpy()
    assert np.abs(ours - theirs).max() <= 1.01


def test_fine_stripes_turn_grey_and_not_into_moire() -> None:
    stripes = torch.ones(1, 1, 64, 512)
    stripes[..., ::2] = -1.0
    small = resize(stripes, 100, 64)[..., 5:-5]
    assert float(small.abs().max()) < 0.1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_dtype_agrees_with_float32(photo: NDArray[np.uint8], dtype: torch.dtype) -> None:
    picture = planes(photo) / 127.5 - 1
    result = fit(picture.to(dtype), 128, 128, "fit")
    assert result.dtype == dtype
    assert float((result.float() - fit(picture, 128, 128, "fit")).abs().max()) < 0.02


def test_the_order_in_memory_does_not_matter(photo: NDArray[np.uint8]) -> None:
    picture = planes(photo)
    interleaved = picture.contiguous(memory_format=torch.channels_last)
    for mode in MODES:
        torch.testing.assert_close(fit(interleaved, 100, 90, mode), fit(picture.contiguous(), 100, 90, mode))


def test_fill_cuts_both_sides_alike() -> None:
    ramp = torch.linspace(-1, 1, 200).expand(1, 3, 100, 200)
    filled = fit(ramp, 50, 50, "fill")
    torch.testing.assert_close(filled[0, 0, 0] + filled[0, 0, 0].flip(0), torch.zeros(50), atol=1e-5, rtol=0)
    assert float(filled.max()) == pytest.approx(0.5, abs=0.02)


def test_letterbox_has_black_bars_and_the_whole_picture() -> None:
    boxed = fit(torch.full((1, 3, 100, 200), 0.5), 64, 64, "letterbox")
    assert torch.all(boxed[..., :16, :] == BLACK)
    assert torch.all(boxed[..., 48:, :] == BLACK)
    torch.testing.assert_close(boxed[..., 16:48, :], torch.full((1, 3, 32, 64), 0.5))
    assert torch.all(fit(torch.ones(1, 1, 100, 200), 64, 64, "letterbox", bars=0.0)[..., :16, :] == 0.0)


def test_fit_draws_its_edges_out() -> None:
    picture = torch.randn(1, 3, 32, 64, generator=torch.Generator().manual_seed(3))
    fitted = fit(picture, 64, 64, "fit")
    assert torch.equal(fitted[..., 16:48, :], picture)
    assert torch.equal(fitted[..., :16, :], picture[..., :1, :].expand(1, 3, 16, 64))
    assert torch.equal(fitted[..., 48:, :], picture[..., -1:, :].expand(1, 3, 16, 64))


def test_stretch_shows_everything_distorted() -> None:
    ramp = torch.linspace(-1, 1, 256).expand(1, 1, 256, 256)
    stretched = fit(ramp, 64, 16, "stretch")
    assert stretched.shape == (1, 1, 16, 64)
    torch.testing.assert_close(stretched[0, 0, 3, 2:-2], resize(ramp[..., :1, :], 64, 1)[0, 0, 0, 2:-2])


@given(sides, sides, sides, sides)
@settings(max_examples=300, deadline=None)
def test_places_lie_inside(source_width: int, source_height: int, width: int, height: int) -> None:
    left, top, inner_width, inner_height = place_inside(source_width, source_height, width, height)
    assert inner_width == width or inner_height == height
    assert min(left, top) >= 0 and inner_width >= 1 and inner_height >= 1
    assert 0 <= width - inner_width - 2 * left <= 1 and 0 <= height - inner_height - 2 * top <= 1
    left, top, crop_width, crop_height = crop_to_shape(source_width, source_height, width, height)
    assert crop_width == source_width or crop_height == source_height
    assert 0 <= source_width - crop_width - 2 * left <= 1 and 0 <= source_height - crop_height - 2 * top <= 1
    assert crop_width >= 1 and crop_height >= 1


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 90), st.integers(1, 90), st.sampled_from(MODES))
@settings(max_examples=100, deadline=None)
def test_every_shape_fits_every_shape(a: int, b: int, width: int, height: int, mode: str) -> None:
    result = fit(torch.full((1, 3, b, a), 0.25), width, height, mode)
    assert result.shape == (1, 3, height, width)
    seen = result[result != BLACK]
    torch.testing.assert_close(seen, torch.full_like(seen, 0.25))
    assert seen.numel() == result.numel() or mode == "letterbox"


def test_an_unknown_way_to_fit_is_named() -> None:
    with pytest.raises(ValueError, match="fill, fit, letterbox, stretch"):
        fit(torch.zeros(1, 3, 4, 4), 4, 4, "crop")


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_read_back_from_the_device(mode: str) -> None:
    """A meta tensor has no values: reading one, or deciding by one, would raise."""
    assert fit(torch.empty(1, 3, 30, 40, device="meta"), 64, 64, mode).shape == (1, 3, 64, 64)
