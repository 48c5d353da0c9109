"""The mesh of latent cells: closed forms of waves, slopes and noise."""

import math

import numpy as np
import pytest
import torch
from embedded.mesh import CELL, SPAN, mesh, more_mesh

SIDE = 256


def waves(period: float, *, height: float = 0.4, side: int = SIDE) -> torch.Tensor:
    """Upright waves of one period [1, 3, side, side]."""
    return (height * torch.cos(2 * math.pi * torch.arange(side) / period)).expand(1, 3, side, side)


def test_waves_of_a_cell_are_a_mesh_of_their_own_size_and_other_waves_are_hardly_one() -> None:
    found = mesh(waves(CELL))
    assert found.shape == (1, ((SIDE - 7) // (CELL * SPAN)) ** 2)
    np.testing.assert_allclose(found, 0.4 / math.sqrt(2), rtol=1e-4)
    np.testing.assert_allclose(mesh(waves(CELL / 2).transpose(2, 3)), 0.4 / math.sqrt(2), rtol=1e-4)
    for period in (6, 7, 9, 10.5):
        assert float(mesh(waves(period)).max()) < 0.5 * 0.4 / math.sqrt(2)


def test_it_is_the_mean_of_the_cells_less_their_surroundings() -> None:
    """Written out with numpy, pixel by pixel, for one place of one picture."""
    picture = torch.randn(1, 3, 55, 55, generator=torch.Generator().manual_seed(2))
    known, pattern = picture[0].double().numpy(), np.zeros((3, CELL, CELL))
    for y in range(CELL * SPAN):
        for x in range(CELL * SPAN):
            around = known[:, y : y + CELL, x : x + CELL].mean(axis=(1, 2))
            pattern[:, y % CELL, x % CELL] += (known[:, y + CELL // 2, x + CELL // 2] - around) / SPAN**2
    pattern -= pattern.mean(axis=(1, 2), keepdims=True)
    assert float(mesh(picture)) == pytest.approx(np.sqrt((pattern**2).mean()), rel=1e-3)


def test_slopes_and_even_places_are_none_and_noise_is_averaged_away() -> None:
    slope = torch.linspace(-1, 1, SIDE).expand(2, 3, SIDE, SIDE)
    assert float(mesh(slope + slope.transpose(2, 3)).max()) < 1e-3
    assert float(mesh(torch.full((1, 3, SIDE, SIDE), 0.7)).max()) < 1e-3
    noise = 0.3 * torch.randn(8, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    assert float(mesh(noise).mean()) == pytest.approx(0.3 / SPAN * math.sqrt(1 - 1 / CELL**2), rel=0.03)


def test_a_small_picture_is_one_place_and_a_smaller_one_is_refused() -> None:
    assert mesh(waves(CELL, side=CELL * SPAN + 7)).shape == (1, 1)
    with pytest.raises(ValueError, match="55 pixels"):
        mesh(waves(CELL, side=CELL * SPAN))


def test_only_more_of_a_mesh_than_is_wanted_counts_and_the_way_down_takes_it_off() -> None:
    plain, meshed = torch.zeros(1, 3, SIDE, SIDE), waves(CELL)
    assert float(more_mesh(plain, meshed)) == 0 == float(more_mesh(meshed, meshed))
    made = meshed.clone().requires_grad_(True)
    loss = more_mesh(made, plain)
    loss.backward()
    assert made.grad is not None and float(loss.detach()) > 0.25
    lower = more_mesh(meshed - 1e3 * made.grad, plain)
    assert float(lower) < float(loss.detach())
