"""The flow-matching targets against their closed form, the starts of a live stream from a photo, and the light that a seed means."""

import cv2
import numpy as np
import torch
from embedded import flow
from hypothesis import given, settings
from hypothesis import strategies as st

LEVELS = st.floats(0.05, 1.0)
SHARES = st.floats(0.0, 1.0)
CHANNELS = 8


def latents(seed: int) -> torch.Tensor:
    return torch.randn(2, CHANNELS, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def level(value: float) -> torch.Tensor:
    return torch.full((2,), value, dtype=torch.float64)


@settings(deadline=None)
@given(LEVELS, SHARES)
def test_the_wanted_velocity_is_noise_minus_target_whatever_the_start(s: float, share: float) -> None:
    content, target, noise = latents(1), latents(2), latents(3)
    x_s = flow.noisy(flow.mixture(content, target, level(share)), noise, level(s))
    wanted = flow.goal(content, target, level(share), level(s))
    torch.testing.assert_close(flow.velocity(x_s, wanted, level(s)), noise - target)


@settings(deadline=None)
@given(LEVELS, SHARES)
def test_one_euler_step_along_the_wanted_velocity_ends_at_the_goal(s: float, share: float) -> None:
    content, target, noise = latents(1), latents(2), latents(3)
    x_s = flow.noisy(flow.mixture(content, target, level(share)), noise, level(s))
    wanted = flow.goal(content, target, level(share), level(s))
    arrived = flow.denoised(x_s, flow.velocity(x_s, wanted, level(s)), level(s))
    torch.testing.assert_close(arrived, wanted)


@settings(deadline=None)
@given(SHARES)
def test_full_noise_always_wants_the_whole_look(share: float) -> None:
    content, target = latents(1), latents(2)
    torch.testing.assert_close(flow.goal(content, target, level(share), level(1.0)), target)


def test_the_change_from_a_photo_is_the_strength() -> None:
    content, target = latents(1), latents(2)
    for strength in (0.0, 0.25, 0.5, 1.0):
        moved = flow.goal(content, target, level(0.0), level(strength)) - content
        torch.testing.assert_close(moved, strength * (target - content))


def test_the_first_half_of_the_noise_levels_are_one_and_the_others_are_spread_evenly() -> None:
    drawn = flow.draw_sigmas(4001, generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (4001,) and bool((drawn[:2000] == 1).all())
    rest = drawn[2000:].sort().values.double()
    assert float(rest[0]) >= 0.1 and float(rest[-1]) < 1
    even = torch.linspace(0.1, 1, len(rest), dtype=torch.float64)
    assert float((rest - even).abs().max()) < 0.9 * 1.95 / np.sqrt(len(rest))  # Kolmogorov and Smirnov, one in a thousand
    assert torch.equal(drawn, flow.draw_sigmas(4001, generator=torch.Generator().manual_seed(0)))


def test_shares_are_a_third_photo_a_third_picture_a_third_between_and_below_full_noise_the_pictures_come_first() -> None:
    shares = flow.draw_shares(6000, generator=torch.Generator().manual_seed(1))
    one, photo, picture, mixed = shares[:3000], shares == 0, shares == 1, (shares > 0) & (shares < 1)
    assert bool((photo | picture | mixed).all())
    for part in (one == 0, one == 1, (one > 0) & (one < 1)):
        assert abs(float(part.float().mean()) - 1 / 3) < 0.04
    assert bool(picture[3000:4000].all()) and not picture[4000:].any()
    assert abs(float(photo[4000:].float().mean()) - 0.5) < 0.05
    assert abs(float(shares[mixed].mean()) - 0.5) < 0.03 and abs(float(shares[mixed].std()) - 1 / np.sqrt(12)) < 0.02


COLOURS_ONLY = torch.eye(CHANNELS, 3)  # latents whose first three channels are the colour


def slow_noise(*, count: int = 64, size: int = 40) -> torch.Tensor:
    """The slow part of noise [count, 8, size, size], read back out of its light: [count, 3, size, size]."""
    noise = torch.randn(count, CHANNELS, size, size, generator=torch.Generator().manual_seed(6))
    return torch.atanh((flow.seed_light(noise, COLOURS_ONLY)[:, :3].double() / flow.LIGHT).clamp(-1 + 1e-7, 1 - 1e-7))


def test_the_seed_light_is_a_gaussian_blur_of_the_noise_as_opencv_makes_it() -> None:
    noise = torch.randn(2, CHANNELS, 24, 20, generator=torch.Generator().manual_seed(1))
    kernel = cv2.getGaussianKernel(2 * 6 + 1, 3.0)
    kernel = (kernel / np.sqrt(np.square(kernel).sum())).astype(np.float32)
    made = flow.seed_light(noise, COLOURS_ONLY).numpy()
    for i, colour in ((0, 0), (1, 2)):
        soft = cv2.sepFilter2D(noise[i, colour].numpy(), cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
        np.testing.assert_allclose(made[i, colour], flow.LIGHT * np.tanh(soft), atol=1e-5)
    assert not made[:, 3:].any()


def test_away_from_the_border_the_slow_noise_has_unit_spread_and_a_gaussian_neighbourhood() -> None:
    inner = slow_noise()[:, :, 10:30, 10:30]
    assert abs(float(inner.std()) - 1) < 0.06
    for distance in (1, 3):
        ahead, behind = inner[..., distance:], inner[..., :-distance]
        likeness = float((ahead * behind).mean() / inner.square().mean())
        assert abs(likeness - np.exp(-(distance**2) / (4 * 3.0**2))) < 0.03


def test_the_seed_light_is_linear_in_the_directions_and_bounded_by_them() -> None:
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(3, CHANNELS, 12, 12, generator=generator)
    one, other = torch.randn(2, CHANNELS, 3, generator=generator)
    together = flow.seed_light(noise, 2 * one - other)
    torch.testing.assert_close(together, 2 * flow.seed_light(noise, one) - flow.seed_light(noise, other), atol=1e-5, rtol=1e-4)
    assert bool((flow.seed_light(noise, one).abs().amax(dim=(0, 2, 3)) <= flow.LIGHT * one.abs().sum(dim=1) + 1e-6).all())


def test_a_small_step_of_the_noise_moves_the_seed_light_a_little() -> None:
    generator = torch.Generator().manual_seed(3)
    noise, aside = torch.randn(1, CHANNELS, 16, 16, generator=generator), torch.randn(1, CHANNELS, 16, 16, generator=generator)
    lights = [flow.seed_light(noise + step * aside, COLOURS_ONLY) for step in (0.0, 0.01, 0.02, 1.0)]
    near, twice, far = (float((light - lights[0]).abs().mean()) for light in lights[1:])
    assert near < flow.LIGHT * 0.03 < far
    assert abs(twice / near - 2) < 0.2
