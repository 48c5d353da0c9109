"""The stream batch against closed forms and against diffusers' own LCM steps."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from diffusers import LCMScheduler
from torch import Tensor

from engine.diffusion.guidance import Guidance, effective, weights
from engine.diffusion.prediction import Prediction, network_output
from engine.diffusion.schedule import Flow, NoiseCurve, VariancePreserving, schedule_of
from engine.diffusion.stream_batch import COEFFICIENTS, Layout, RowPlan, advance, coefficient_table

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
CURVE = VariancePreserving(tuple(LCMScheduler(**BETAS).alphas_cumprod.tolist()), boundary=True)
SHAPE = (1, 4, 6, 6)


def noise(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def plans_of(
    curve: NoiseCurve, *, steps: int, guidance: Guidance = "none", scale: float = 1.0, delta: float = 1.0,
    renoise: bool = True, euler: bool = False, strength: float = 1.0,
) -> list[RowPlan]:  # fmt: skip
    schedule = schedule_of(curve, strength=strength, steps=steps)
    return [
        RowPlan(schedule=schedule, step=i, guidance=guidance, guidance_scale=scale, delta=delta, renoise=renoise, euler=euler)
        for i in range(steps)
    ]


def run_alone(plans: list[RowPlan], x: Tensor, reference: Tensor, network: object, prediction: Prediction) -> list[Tensor]:
    """One frame through all its steps; the clean guess after each."""
    guesses = []
    for i, plan in enumerate(plans):
        step = advance(
            x, reference, noise(100 + i + 1), coefficient_table([plan]),
            layout=Layout.of([plan]), prediction=prediction, network=network,  # type: ignore[arg-type]
        )  # fmt: skip
        x, reference = step.x_next, step.reference
        guesses.append(step.x0)
    return guesses


@pytest.mark.parametrize("guidance", ["none", "self", "onetime", "full"])
@pytest.mark.parametrize("renoise", [True, False])
@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize(("curve", "prediction"), [(CURVE, "epsilon"), (CURVE, "v_prediction"), (Flow(), "flow")])
def test_a_network_that_knows_the_input_returns_it_whatever_the_guidance(
    guidance: Guidance, renoise: bool, steps: int, curve: NoiseCurve, prediction: Prediction
) -> None:
    """If the network's answer is the residual itself, guidance has nothing to push: x0 is the input, noise added or not."""
    clean = noise(0)
    plans = plans_of(curve, steps=steps, guidance=guidance, scale=7.0, renoise=renoise, strength=0.6)
    table = coefficient_table(plans)
    rows = {float(t): (a, b) for t, a, b in zip(*(table[i].tolist() for i in range(3)), strict=True)}

    def network(x: Tensor, t: Tensor) -> Tensor:
        a, b = (torch.tensor([rows[float(v)][i] for v in t]).view(-1, 1, 1, 1) for i in (0, 1))
        return network_output(x, clean.expand_as(x), a, b, prediction)

    first = plans[0].schedule[0]
    x = first.a * clean + first.b * noise(1)
    for guess in run_alone(plans, x, clean, network, prediction):
        torch.testing.assert_close(guess, clean, atol=2e-4, rtol=1e-3)


def test_consistency_steps_are_diffusers_lcm_steps() -> None:
    scheduler = LCMScheduler(**BETAS)
    scheduler.set_timesteps(4)
    timesteps = tuple(int(t) for t in scheduler.timesteps)
    schedule = schedule_of(CURVE, strength=1.0, steps=1, step_list=timesteps)
    plans = [RowPlan(schedule=schedule, step=i, guidance="none", guidance_scale=1, delta=1, renoise=True, euler=False) for i in range(4)]

    def network(x: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(x) * 0.7 + t.view(-1, 1, 1, 1) / 2000

    x = theirs = noise(7)
    guesses = run_alone(plans, x, torch.zeros(SHAPE), network, "epsilon")
    for i, t in enumerate(scheduler.timesteps):
        step = scheduler.step(network(theirs, t.float()[None]), t, theirs, generator=torch.Generator().manual_seed(100 + i + 1))
        torch.testing.assert_close(guesses[i], step.denoised, atol=2e-4, rtol=1e-4)
        theirs = step.prev_sample


@pytest.mark.parametrize("guidance", ["none", "self", "onetime", "full"])
@pytest.mark.parametrize("euler", [False, True])
def test_rows_do_not_touch_each_other(guidance: Guidance, euler: bool) -> None:
    plans = plans_of(CURVE, steps=4, guidance=guidance, scale=1.7, delta=0.6, euler=euler, strength=0.7)
    x = torch.cat([noise(i) for i in range(4)])
    reference = torch.cat([noise(10 + i) for i in range(4)])
    fresh = torch.cat([noise(20 + i) for i in range(4)])

    def network(latents: Tensor, t: Tensor) -> Tensor:
        return torch.sin(latents + t.view(-1, 1, 1, 1))

    together = advance(
        x, reference, fresh, coefficient_table(plans), layout=Layout.of(plans), prediction="epsilon", network=network
    )
    for i, plan in enumerate(plans):
        row = slice(i, i + 1)
        alone = advance(
            x[row], reference[row], fresh[row], coefficient_table([plan]),
            layout=Layout.of([plan]), prediction="epsilon", network=network,
        )  # fmt: skip
        for name in ("x0", "x_next", "reference"):
            torch.testing.assert_close(getattr(together, name)[row], getattr(alone, name), atol=1e-5, rtol=1e-5)


def test_full_guidance_is_the_textbook_line() -> None:
    (plan,) = plans_of(CURVE, steps=1, guidance="full", scale=3.0, strength=0.5)
    x, positive, negative = noise(1), noise(2), noise(3)
    step = advance(
        x, noise(4), noise(5), coefficient_table([plan]),
        layout=Layout.of([plan]), prediction="epsilon", network=lambda latents, t: torch.cat((negative, positive)),
    )  # fmt: skip
    now = plan.schedule[0]
    guided = negative + 3.0 * (positive - negative)
    torch.testing.assert_close(step.x0, now.c_out * (x - now.b * guided) / now.a + now.c_skip * x, atol=1e-4, rtol=1e-4)


def test_self_guidance_is_the_papers_line_at_the_first_step() -> None:
    """Residual CFG with the entry noise as residual: guided = delta eps_0 + g (c - delta eps_0)."""
    (plan,) = plans_of(CURVE, steps=1, guidance="self", scale=1.4, delta=0.5, strength=0.36)
    now, clean, start, answer = plan.schedule[0], noise(1), noise(2), noise(3)
    x = now.a * clean + now.b * start
    step = advance(
        x, clean, noise(4), coefficient_table([plan]), layout=Layout.of([plan]), prediction="epsilon", network=lambda latents, t: answer
    )
    guided = 0.5 * start + 1.4 * (answer - 0.5 * start)
    torch.testing.assert_close(step.x0, now.c_out * (x - now.b * guided) / now.a + now.c_skip * x, atol=1e-4, rtol=1e-4)


def test_which_rows_ask_the_negative_prompt() -> None:
    onetime = plans_of(CURVE, steps=3, guidance="onetime", scale=2.0)
    assert Layout.of(onetime) == Layout(rows=3, negative=(0,), referring=(0,))
    assert Layout.of(plans_of(CURVE, steps=2, guidance="full", scale=2.0)).source_rows == (0, 1, 0, 1)
    assert Layout.of(plans_of(CURVE, steps=2, guidance="self", scale=2.0)).negative == ()


def test_guidance_at_scale_one_is_none() -> None:
    assert effective("full", 1.0) == "none" and effective("full", 1.01) == "full"
    for kind in ("none", "self", "onetime", "full"):
        assert weights(kind, 1.0, 0.5) == (1.0, 0.0)  # type: ignore[arg-type]


def test_steps_hand_over_noise_as_they_say() -> None:
    consistency, euler = (plans_of(CURVE, steps=2, euler=e)[0].coefficients() for e in (False, True))
    bare = plans_of(CURVE, steps=2, renoise=False)[0].coefficients()
    following = plans_of(CURVE, steps=2)[0].schedule[1]
    places = [COEFFICIENTS.index(name) for name in ("a_next", "fresh", "found")]
    assert [consistency[p] for p in places] == [following.a, following.b, 0.0]
    assert [euler[p] for p in places] == [following.a, 0.0, following.b]
    assert [bare[p] for p in places] == [following.a, 0.0, 0.0]
    assert all(now > then for now, then in pairwise(s.b for s in plans_of(CURVE, steps=8)[0].schedule))
