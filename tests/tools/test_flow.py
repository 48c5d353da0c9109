"""The flow-matching targets against their closed form, and the starts from a photo that a live stream makes."""

import torch
from embedded import flow
from hypothesis import given, settings
from hypothesis import strategies as st

LEVELS = st.floats(0.05, 1.0)
SHARES = st.floats(0.0, 1.0)


def latents(seed: int) -> torch.Tensor:
    return torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


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


def test_half_of_the_noise_levels_are_one() -> None:
    drawn = flow.draw_sigmas(4000, generator=torch.Generator().manual_seed(0))
    assert float(drawn.min()) >= 0.1 and float(drawn.max()) == 1.0
    assert abs(float((drawn == 1).float().mean()) - 0.5) < 0.03
