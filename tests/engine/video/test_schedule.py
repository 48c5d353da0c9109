"""Noise levels on the shifted grid."""

from __future__ import annotations

import torch

from engine.video.schedule import FlowGrid, clean_of, noised

CPU = torch.device("cpu")


def test_the_published_levels_of_shift_8() -> None:
    sigmas = FlowGrid(8.0).levels([700, 500, 400, 200, 0], CPU).sigmas
    assert torch.allclose(sigmas, torch.tensor([0.7002, 0.4997, 0.4003, 0.1983, 0.0079], dtype=torch.float64), atol=6e-5)


def test_nearest_is_the_nearest_of_the_whole_grid() -> None:
    grid = FlowGrid(5.0)
    whole = grid.at(1.0 - torch.arange(1000, dtype=torch.float64) / 1000)
    asked = torch.linspace(0, 1000, 777, dtype=torch.float64)
    expected = whole[(whole[None] * 1000 - asked[:, None]).abs().argmin(1)]
    assert torch.allclose(grid.nearest(asked), expected, atol=1e-12)


def test_warped_timesteps_are_what_the_shift_makes_of_them() -> None:
    warped = FlowGrid(5.0).levels([1000, 750, 500, 250], CPU, warped=True)
    assert torch.allclose(warped.timesteps, torch.tensor([1000.0, 937.5, 833.3333, 625.0]))
    assert torch.allclose(FlowGrid(8.0).levels([750], CPU, warped=True).timesteps, torch.tensor([960.0]))


def test_the_first_timestep_can_be_another() -> None:
    grid = FlowGrid(8.0)
    changed = grid.from_first(grid.levels([700, 500], CPU), torch.tensor(686.0))
    assert changed.timesteps.tolist() == [686.0, 500.0]
    assert torch.equal(changed.sigmas[1:], grid.levels([500], CPU).sigmas)


def test_noising_and_the_perfect_velocity_are_inverse() -> None:
    x0, noise, sigma = torch.randn(2, 3, 4), torch.randn(2, 3, 4), torch.tensor(0.7, dtype=torch.float64)
    assert torch.allclose(clean_of(noised(x0, noise, sigma), noise - x0, sigma), x0, atol=1e-6)
