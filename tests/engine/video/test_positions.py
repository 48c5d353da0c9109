"""Rotary positions without a table, and the policies that number frames."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed

from engine.video.positions import EMPTY, AbsolutePositions, CacheRelativePositions, ResetPositions, Rope, angles, turned, turns_of

CPU = torch.device("cpu")


def test_angles_are_the_formula() -> None:
    found = angles(torch.tensor([3.0, 2000.0]), 4)
    assert torch.allclose(found, torch.tensor([[3.0, 3.0 / 100.0], [2000.0, 20.0]], dtype=torch.float64))


def test_turning_is_a_rotation_of_pairs() -> None:
    quarter = torch.tensor([math.pi / 2])
    assert torch.allclose(turned(torch.tensor([2.0, 3.0]), turns_of(quarter)), torch.tensor([-3.0, 2.0]), atol=1e-6)


def test_it_is_the_embedding_of_the_published_model() -> None:
    frames, height, width, heads, size = 3, 2, 5, 2, 20
    cos, sin = WanRotaryPosEmbed(size, (1, 2, 2), 64)(torch.zeros(1, 1, frames, 2 * height, 2 * width))
    x = torch.randn(1, frames, height * width, heads, size)
    even, odd = x.flatten(1, 2).unflatten(-1, (-1, 2)).unbind(-1)
    c, s = cos[..., 0::2], sin[..., 1::2]
    expected = torch.stack((even * c - odd * s, even * s + odd * c), -1).flatten(-2)
    rope = Rope(size, height=height, width=width, device=CPU)
    turns = rope.turns(torch.arange(frames)[None])
    for found in (rope.in_time(rope.in_space(x), turns), rope.in_both(x, rope.with_space(turns))):
        assert torch.allclose(found.flatten(1, 2), expected, atol=1e-6)


@pytest.mark.parametrize("far", [0, 1_024, 5_000, 10_000_000])
def test_only_distances_matter_however_long_the_stream_has_run(far: int) -> None:
    rope = Rope(24, height=1, width=1, device=CPU)
    q, k = torch.randn(2, 1, 1, 1, 1, 24, generator=torch.Generator().manual_seed(1))
    near, moved = (
        (rope.in_time(q, rope.turns(torch.tensor([[7.0 + by]]))) * rope.in_time(k, rope.turns(torch.tensor([[3.0 + by]])))).sum()
        for by in (0, far)
    )
    assert torch.allclose(near, moved, atol=1e-5)


def test_absolute_counts_on_for_ever() -> None:
    positions = AbsolutePositions(start=5)
    assert [positions.advance(2), positions.advance(1), positions.advance(3)] == [5, 7, 8]
    positions.reset()
    assert positions.advance(1) == 5


def test_reset_jumps_back_and_takes_the_window_along() -> None:
    positions = ResetPositions(limit=50, restart=5)
    numbers = [positions.advance(1) for _ in range(96)]
    assert numbers[:50] == list(range(50)) and numbers[50:95] == list(range(5, 50)) and numbers[95] == 5
    written = torch.tensor([0.0, 37.0, 2.0, 49.0, 47.0, 48.0], dtype=torch.float64)
    # Sinks no further than their own place, the ring by 45; the next frame is 5: nothing stands in the future.
    assert positions.renumbered(written, sinks=3, shift=45).tolist() == [0.0, 1.0, 2.0, 4.0, 2.0, 3.0]


def test_cache_relative_places_are_ranks() -> None:
    written = torch.tensor([[0.0, 1.0, 702.0, 700.0, 701.0, EMPTY]], dtype=torch.float64)
    assert CacheRelativePositions().places(written).tolist() == [[0.0, 1.0, 4.0, 2.0, 3.0, 5.0]]


def test_a_jump_back_must_lie_before_the_limit() -> None:
    with pytest.raises(ValueError, match="restart at 9"):
        ResetPositions(limit=9, restart=9)
