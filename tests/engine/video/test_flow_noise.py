"""Noise carried by the flow: closed forms for shifts, zooms and holes; unit variance, no correlation between places, for any flow."""

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.images.flow import motion as found_motion
from engine.video.flow_noise import DRAWS, carried, places, warp

H, W = 4, 6


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def shift(columns: float, rows: float, height: int = H, width: int = W) -> torch.Tensor:
    """The motion of a picture that moved right and down by so many places: they came from the left and above."""
    motion = torch.ones(3, height, width)
    motion[0], motion[1] = -columns / width, -rows / height
    return motion


def test_a_still_picture_keeps_its_noise_bit_for_bit() -> None:
    last, fresh = drawn(1, 2, H, W, seed=1), drawn(DRAWS, 1, 2, H, W, seed=2)
    assert torch.equal(carried(last, fresh, shift(0, 0)), last)
    assert torch.equal(carried(last, fresh, shift(0, 0), forward=shift(0, 0)), last)


def test_a_shift_moves_the_noise_and_what_enters_is_fresh() -> None:
    last, fresh = drawn(1, 2, H, W, seed=1), drawn(DRAWS, 1, 2, H, W, seed=2)
    for forward in (None, -shift(2, 1) + torch.tensor([0.0, 0.0, 2.0]).view(3, 1, 1)):
        result = carried(last, fresh, shift(2, 1), forward=forward)
        assert torch.equal(result[..., 1:, 2:], last[..., :-1, :-2])
        assert torch.equal(result[..., 0, :], fresh[1][..., 0, :])
        assert torch.equal(result[..., :, :2], fresh[1][..., :, :2])


def test_another_scene_is_all_fresh_and_so_is_the_unexplained() -> None:
    last, fresh = drawn(1, 2, H, W, seed=1), drawn(DRAWS, 1, 2, H, W, seed=2)
    assert torch.equal(carried(last, fresh, None), fresh[0])
    unexplained = shift(0, 0)
    unexplained[2, :, :3] = 0.1
    result = carried(last, fresh, unexplained)
    assert torch.equal(result[..., :3], fresh[1][..., :3]) and torch.equal(result[..., 3:], last[..., 3:])


def test_a_place_drawn_out_over_four_keeps_its_noise_as_their_sum() -> None:
    last, fresh = drawn(1, 1, 2, 2, seed=1), drawn(2, 1, 1, 2, 2, seed=2)
    result = warp(last, fresh, from_where=torch.zeros(4, dtype=torch.int64))
    # c parts n / sqrt(c) + z - mean(z): they add up to sqrt(c) n.
    assert float(result.sum()) == pytest.approx(2 * float(last[0, 0, 0, 0]), abs=1e-5)
    expected = last[0, 0, 0, 0] / 2 + fresh[1, 0, 0] - fresh[1].mean()
    torch.testing.assert_close(result[0, 0], expected)


def test_places_drawn_together_add_up() -> None:
    last, fresh = drawn(1, 1, 1, 4, seed=1), drawn(2, 1, 1, 1, 4, seed=2)
    nowhere = torch.full((4,), -1)
    result = warp(last, fresh, from_where=nowhere, to_where=torch.tensor([2, 2, 2, -1]))
    assert float(result[0, 0, 0, 2]) == pytest.approx(float(last[0, 0, 0, :3].sum()) / math.sqrt(3), abs=1e-6)
    assert torch.equal(result[0, 0, 0, [0, 1, 3]], fresh[1, 0, 0, 0, [0, 1, 3]])


POINTERS = st.lists(st.integers(-1, H * W - 1), min_size=H * W, max_size=H * W)


@settings(deadline=None, max_examples=30)
@given(POINTERS, st.none() | POINTERS)
def test_the_warp_is_orthogonal_for_any_flow(from_where: list[int], to_where: list[int] | None) -> None:
    """The result is linear in (last, fresh): its rows are orthonormal, so normal white noise goes to normal white noise exactly."""
    n = H * W
    unit = torch.eye(3 * n).reshape(3 * n, 3, H, W)  # each channel one coordinate of (last, fresh forward, fresh back)
    last, fresh = unit[:, 0][None], unit[:, 1:].transpose(0, 1)[:, None]
    pointers = torch.tensor(from_where), None if to_where is None else torch.tensor(to_where)
    result = warp(last, fresh, from_where=pointers[0], to_where=pointers[1])
    matrix = result.reshape(3 * n, n)
    torch.testing.assert_close(matrix.T @ matrix, torch.eye(n), atol=1e-5, rtol=0)


def test_hundreds_of_zooming_chunks_stay_standard_normal_and_white() -> None:
    height, width = 24, 32
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / height - 0.5, (torch.arange(width) + 0.5) / width - 0.5, indexing="ij")
    zoom = torch.stack((-0.06 * x + 0.03 * y, -0.06 * y - 0.03 * x, torch.ones_like(x)))
    forward = torch.stack((0.06 * x - 0.03 * y, 0.06 * y + 0.03 * x, torch.ones_like(x)))
    noise = drawn(4, 16, height, width, seed=0)
    for count in range(200):
        noise = carried(noise, drawn(DRAWS, 4, 16, height, width, seed=count + 1), zoom, forward=forward)
    samples = noise.numel()
    assert abs(float(noise.mean())) < 5 / math.sqrt(samples)
    assert abs(float(noise.var()) - 1) < 5 * math.sqrt(2 / samples)
    assert abs(float(noise.pow(4).mean()) - 3) < 5 * math.sqrt(96 / samples)
    for rows, columns in ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0)):
        product = noise[..., rows:, columns:] * noise[..., : height - rows, : width - columns]
        assert abs(float(product.mean())) < 5 / math.sqrt(product.numel())


def test_motion_of_a_finer_grid_is_averaged_to_the_noise_s() -> None:
    assert torch.equal(places(shift(1, 0, 8, 12), H, W), places(shift(0.5, 0), H, W))
    assert places(shift(0, 0), 2, 3).tolist() == [0, 1, 2, 3, 4, 5]
    assert places(shift(1, 0), 1, 3).tolist() == [0, 1, 2], "a sixth of the width is half a place of three, which rounds back to it"


def test_noise_follows_a_picture_whose_motion_was_found_by_dense_inverse_search() -> None:
    generator = np.random.default_rng(3)
    whole = cv2.GaussianBlur(generator.integers(0, 256, (160, 176), np.uint8), (0, 0), 3)
    whole = cv2.normalize(whole, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    before, now = whole[16:144, 32:160].copy(), whole[16:144, 24:152].copy()  # the picture moves right by 8 of 128 pixels: one place of 16
    motion = found_motion(now, before)
    assert motion is not None
    last, fresh = drawn(1, 8, 16, 16, seed=1), drawn(DRAWS, 1, 8, 16, 16, seed=2)
    result = carried(last, fresh, torch.from_numpy(motion))
    followed = (result[..., 2:-2, 2:-2] == last[..., 2:-2, 1:-3]).float().mean()
    assert float(followed) > 0.9
