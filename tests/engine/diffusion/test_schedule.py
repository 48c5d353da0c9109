"""Schedules: the published grid, the boundary form as diffusers has it, and strength as people mean it."""

from __future__ import annotations

import pytest
from diffusers import DDIMScheduler, LCMScheduler
from hypothesis import given
from hypothesis import strategies as st

from engine.diffusion.schedule import Flow, VariancePreserving, consistency_boundary, schedule_of

ALPHAS = tuple(
    DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod.tolist()
)
CURVE = VariancePreserving(ALPHAS)


@pytest.mark.parametrize(
    ("t", "a", "b"), [(999, 0.068, 0.998), (799, 0.193, 0.981), (599, 0.402, 0.916), (299, 0.770, 0.639), (19, 0.991, 0.133)]
)
def test_published_coefficients(t: int, a: float, b: float) -> None:
    (step,) = schedule_of(CURVE, strength=0.1, steps=4, step_list=(t,))
    assert (step.timestep, round(step.a, 3), round(step.b, 3)) == (t, a, b)


def test_full_strength_gives_the_timesteps_the_turbo_models_were_distilled_for() -> None:
    assert [s.timestep for s in schedule_of(CURVE, strength=1.0, steps=4)] == [999, 749, 499, 249]
    assert [s.timestep for s in schedule_of(CURVE, strength=0.5, steps=1)] == [499]


def test_explicit_steps_rule_are_sorted_and_come_once() -> None:
    assert [s.timestep for s in schedule_of(CURVE, strength=0.5, steps=1, step_list=(99, 359, 359))] == [359, 99]


def test_strength_zero_is_the_picture_itself() -> None:
    for curve in (CURVE, Flow(shift=3.0)):
        assert all((s.a, s.b) == (1.0, 0.0) for s in schedule_of(curve, strength=0.0, steps=3))


def test_boundary_is_diffusers() -> None:
    scheduler = LCMScheduler()
    for t in (19, 499, 999):
        c_skip, c_out = scheduler.get_scalings_for_boundary_condition_discrete(t)
        assert consistency_boundary(t) == pytest.approx((float(c_skip), float(c_out)), rel=1e-5)
    assert consistency_boundary(0) == (1.0, 0.0)
    assert VariancePreserving(ALPHAS, boundary=True).at(1.0).c_out == pytest.approx(1.0, abs=1e-6)


@given(st.floats(0, 1), st.integers(1, 8))
def test_a_schedule_only_goes_down_and_more_strength_never_means_less_noise(strength: float, steps: int) -> None:
    for curve in (CURVE, Flow(shift=2.0)):
        noise = [step.b for step in schedule_of(curve, strength=strength, steps=steps)]
        stronger = [step.b for step in schedule_of(curve, strength=min(1.0, strength + 0.1), steps=steps)]
        assert len(noise) == steps
        assert noise == sorted(noise, reverse=True)
        assert all(b2 >= b1 for b1, b2 in zip(noise, stronger, strict=True))


@given(st.floats(0.001, 1))
def test_flow_shift_closed_form(p: float) -> None:
    step = Flow(shift=3.0).at(p)
    assert step.b == pytest.approx(3 * p / (1 + 2 * p))
    assert step.a + step.b == pytest.approx(1.0)
    assert step.timestep == pytest.approx(1000 * step.b)
