"""Noise levels of chunks: against the reference's dump, and against the paper's formula worked by hand."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.video.noise_control import FixedNoise, MotionAwareNoise, change, noised, understated

REFERENCE = Path(__file__).parents[4] / "shared" / "golden" / "video_stream" / "batch_2steps.pt"


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.skipif(not REFERENCE.exists(), reason="the reference dumps are not beside the checkout")
def test_noise_scales_and_timesteps_are_the_reference_s() -> None:
    dump = torch.load(REFERENCE, weights_only=True)
    pictures = dump["frames"].transpose(1, 2)
    asked = before = number(dump["args"]["noise_scale"])
    for i, chunk in enumerate(dump["chunks"]):
        moved = change(pictures[:, 4 * i + 4 : 4 * i + 9]).double()
        level = MotionAwareNoise().level(asked, moved, before)
        assert abs(float(level.noise_scale) - chunk["noise_scale"]) < 1e-7
        assert int(level.timestep) == chunk["current_step"] == chunk["t"][0]
        before = level.noise_scale


@pytest.mark.skipif(not REFERENCE.exists(), reason="the reference dumps are not beside the checkout")
def test_a_chunk_is_noised_as_in_the_reference() -> None:
    dump = torch.load(REFERENCE, weights_only=True)
    chunk = dump["chunks"][0]
    latent = dump["latents"][:, 2:3]
    scale = torch.tensor(chunk["noise_scale"], dtype=torch.float64)
    matches = [draw for draw in dump["draws"] if draw.numel() == latent.numel()]
    errors = [float((noised(latent, draw.reshape(latent.shape), scale) - chunk["noisy"]).abs().max()) for draw in matches]
    assert min(errors) < 1e-6


def test_change_is_the_largest_step_between_neighbours() -> None:
    pictures = torch.zeros(1, 4, 3, 2, 2)
    pictures[:, 1] = 0.1
    pictures[:, 2] = 0.4
    pictures[:, 3] = 0.3
    assert float(change(pictures)) == pytest.approx(0.3)


def test_change_of_one_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="two pictures"):
        change(torch.zeros(1, 1, 3, 2, 2))


def test_wild_motion_takes_off_a_tenth_in_the_end() -> None:
    asked = before = number(0.8)
    for count in range(1, 30):
        level = MotionAwareNoise().level(asked, number(5.0), before)
        before = level.noise_scale
        # s_n = s_max - 0.1 (1 - 0.1^n)
        assert float(before) == pytest.approx(0.7 + 0.1 ** (count + 1), abs=1e-12)
    assert float(level.timestep) == 600


def test_a_still_input_stays_at_the_scale_that_is_set() -> None:
    asked = number(0.8)
    level = MotionAwareNoise().level(asked, number(0.0), asked)
    assert float(level.noise_scale) == pytest.approx(0.8) and float(level.timestep) in (699, 700)


@settings(deadline=None)
@given(st.floats(0.1, 1.0), st.floats(0.0, 2.0), st.floats(0.0, 1.0))
def test_the_scale_stays_between_what_the_formula_allows(asked: float, moved: float, before: float) -> None:
    level = MotionAwareNoise().level(number(asked), number(moved), number(before))
    low, high = min(asked - 0.1, before), max(asked, before)
    assert low - 1e-9 <= float(level.noise_scale) <= high + 1e-9
    assert 0 <= float(level.timestep) <= 900


def test_fixed_noise_heeds_only_what_is_set() -> None:
    level = FixedNoise().level(torch.tensor(0.8), torch.tensor(2.0), torch.tensor(0.1))
    assert float(level.noise_scale) == pytest.approx(0.8) and float(level.timestep) == 700


def test_little_noise_is_never_told_as_less_than_none() -> None:
    assert float(understated(number(0.05))) == 0


def test_all_noise_and_no_noise() -> None:
    x0, noise = torch.randn(1, 1, 2, 3, 3), torch.randn(1, 1, 2, 3, 3)
    assert torch.equal(noised(x0, noise, torch.tensor(1.0)), noise)
    assert torch.equal(noised(x0, noise, torch.tensor(0.0)), x0)
