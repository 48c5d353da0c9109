"""Motion between inputs and pictures moved by it, against translations that are known and against OpenCV's remap."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.frames import PixelFormat
from engine.images.flow import luminance, motion
from engine.images.pixel_formats import to_rgb, to_uyvy
from engine.images.resize import MODES, fit
from engine.images.warp import blend_moved, moved


def texture(seed: int, side: int = 192) -> NDArray[np.uint8]:
    """Smooth random grey [side, side] over the whole range."""
    noise = np.random.default_rng(seed).standard_normal((side, side)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.clip(127 + 50 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def shifted(picture: NDArray[np.uint8], dx: float, dy: float, side: int = 128) -> NDArray[np.uint8]:
    """A window [side, side] of `picture`, in which everything stands by (dx, dy) further than in the unshifted window."""
    y, x = np.mgrid[:side, :side].astype(np.float32) + 32
    return np.asarray(cv2.remap(picture, x - dx, y - dy, cv2.INTER_CUBIC), np.uint8)


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (3, -2), (-5, 4), (1.5, 0.25)])
def test_a_translation_is_found_and_explains_all_but_what_came_in(dx: float, dy: float) -> None:
    before, now = shifted(texture(0), 0, 0), shifted(texture(0), dx, dy)
    found = motion(now, before)
    assert found is not None
    inner = found[:, 16:-16, 16:-16]
    assert np.abs(inner[0] * 128 + dx).mean() < 0.15 and np.abs(inner[1] * 128 + dy).mean() < 0.15
    assert inner[2].mean() > 0.99
    last, new = (torch.from_numpy(picture)[None, None] / 127.5 - 1 for picture in (before, now))
    error = moved(last.float(), torch.from_numpy(found[None, :2])) - new
    assert float(error[..., 16:-16, 16:-16].abs().mean()) * 127.5 < 2.0
    if dx < -2:
        assert not found[2, :, -int(-dx) + 1 :].any()  # on the right something new came in


def test_moved_is_what_opencv_makes_of_it() -> None:
    random = np.random.default_rng(1)
    picture = random.uniform(-1, 1, (40, 64)).astype(np.float32)
    flow = cv2.GaussianBlur(random.standard_normal((40, 64, 2)).astype(np.float32) * 40, (0, 0), 4)
    y, x = np.mgrid[:40, :64].astype(np.float32)
    expected = cv2.remap(picture, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    shares = torch.from_numpy(np.stack((flow[..., 0] / 64, flow[..., 1] / 40)))[None]
    found = moved(torch.from_numpy(picture)[None, None], shares)[0, 0].numpy()
    assert np.abs(found - expected).max() < 0.04  # OpenCV knows 1/32 pixel
    assert np.abs(flow).max() > 2


def test_another_scene_is_told() -> None:
    assert motion(shifted(texture(1), 0, 0), shifted(texture(2), 0, 0)) is None


def test_what_comes_into_view_is_not_explained() -> None:
    before = shifted(texture(3), 0, 0)
    now = before.copy()
    now[40:80, 40:80] = 255 - 255 * (before[40:80, 40:80] > 127)
    found = motion(now, before)
    assert found is not None
    assert found[2, 44:76, 44:76].mean() < 0.25
    assert found[2, :24].mean() > 0.99 and found[2, 96:].mean() > 0.99


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("width", "height"), [(128, 128), (512, 256), (96, 256)])
def test_luminance_stands_where_the_fitted_picture_stands(mode: str, width: int, height: int) -> None:
    grey = cv2.resize(texture(4), (300, 180), interpolation=cv2.INTER_LINEAR)
    frame = np.dstack([grey, grey, grey, np.full_like(grey, 255)])
    rgb, _ = to_rgb(torch.from_numpy(frame)[None], PixelFormat.BGRX, torch.float32)
    found = luminance(frame, PixelFormat.BGRX, width, height, mode)
    expected = (fit(rgb, width, height, mode)[0, 0].numpy() + 1) * 127.5
    expected = cv2.resize(expected, found.shape[::-1], interpolation=cv2.INTER_AREA)
    assert max(found.shape) <= 256
    assert np.abs(found - expected).mean() < 3.0
    uyvy = to_uyvy(rgb)[0].numpy()
    assert np.abs(luminance(uyvy, PixelFormat.UYVY, width, height, mode).astype(int) - found).mean() < 1.5


def test_unexplained_is_new_bit_for_bit_and_broken_numbers_are_left_out() -> None:
    new, last = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    still = torch.zeros(1, 3, 16, 16)
    last[0, 0, 5, 5], last[0, 1, 9, 9] = float("nan"), float("inf")
    assert torch.equal(blend_moved(new, last, still), new)
    still[:, 2] = 0.5
    blended = blend_moved(new, last, still)
    assert torch.isfinite(blended).all()
    torch.testing.assert_close(blended[:, 2], (new[:, 2] + last[:, 2]) / 2)
