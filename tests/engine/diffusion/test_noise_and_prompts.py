"""Noise keeps its variance, prompts mix by their closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from engine.diffusion.noise import LARGEST_SEED, seed_of_frame, seeded, travel, travel_seeds
from engine.diffusion.prompt_blend import blend, fade_share, slerp


def test_a_seed_is_its_noise() -> None:
    assert torch.equal(seeded(5, (2, 4, 8, 8)), seeded(5, (2, 4, 8, 8)))
    assert not torch.equal(seeded(5, (2, 4, 8, 8)), seeded(6, (2, 4, 8, 8)))
    expected = torch.randn((3, 16), generator=torch.Generator().manual_seed(5))
    assert torch.equal(seeded(5, (3, 16)), expected)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_travel_keeps_mean_and_variance_and_moves_at_an_even_pace(share: float) -> None:
    start, end = seeded(1, (400_000,)), seeded(2, (400_000,))
    between = travel(start, end, share)
    assert float(between.mean()) == pytest.approx(0.0, abs=0.01)
    assert float(between.var()) == pytest.approx(1.0, abs=0.02)
    assert float((between * start).mean()) == pytest.approx(math.cos(share * math.pi / 2), abs=0.02)


def test_travel_passes_the_seeds_themselves_and_wraps() -> None:
    assert travel_seeds(10, 2.25) == (12, 13, 0.25)
    assert travel_seeds(LARGEST_SEED, 0.5) == (LARGEST_SEED, 0, 0.5)
    torch.testing.assert_close(travel(seeded(1, (9,)), seeded(2, (9,)), 0.0), seeded(1, (9,)))


def test_frames_of_a_random_stream_have_seeds_of_their_own() -> None:
    assert len({seed_of_frame(seed, count) for seed in range(20) for count in range(500)}) == 10_000


def test_linear_blend_is_the_normalised_sum() -> None:
    a, b = torch.ones(1, 2, 3), torch.full((1, 2, 3), 5.0)
    torch.testing.assert_close(blend([a, b], [1.0, 3.0], "linear"), torch.full((1, 2, 3), 4.0))
    torch.testing.assert_close(blend([a, b], [0.0, 0.0], "linear"), torch.full((1, 2, 3), 3.0))


def test_slerp_turns_by_the_share_of_the_angle_and_walks_the_length_evenly() -> None:
    start, end = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    for share in (0.0, 0.25, 0.5, 1.0):
        angle = share * math.pi / 2
        expected = (2 + 2 * share) * torch.tensor([[math.cos(angle), math.sin(angle)]])
        torch.testing.assert_close(slerp(start, end, share), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("end", [[3.0, 0.0], [-3.0, 0.0], [0.0, 0.0], [3.0, 1e-7]])
def test_slerp_is_finite_where_there_is_no_angle(end: list[float]) -> None:
    assert torch.isfinite(slerp(torch.tensor([[1.0, 0.0]]), torch.tensor([end]), 0.5)).all()


def test_slerp_of_many_holds_its_parts_fairly() -> None:
    axes = list(torch.eye(3)[:, None])
    mixed = blend(axes, [1.0, 1.0, 1.0], "slerp")
    torch.testing.assert_close(mixed.norm(), torch.tensor(1.0))
    assert float(mixed.std(correction=0)) < 0.15
    torch.testing.assert_close(blend(axes, [0.0, 1.0, 0.0], "slerp"), axes[1])


def test_fade_share() -> None:
    assert [fade_share(t, 2.0) for t in (-1.0, 0.0, 0.5, 3.0)] == [0.0, 0.0, 0.25, 1.0]
    assert fade_share(0.0, 0.0) == 1.0
