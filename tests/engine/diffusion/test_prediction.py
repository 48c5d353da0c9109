"""Predictions: closed forms, inverses, and diffusers' own schedulers as witnesses."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

from engine.diffusion.prediction import Prediction, denoised, network_output, noise_in
from engine.diffusion.schedule import Flow, VariancePreserving

KINDS: tuple[Prediction, ...] = ("epsilon", "v_prediction", "flow", "sample")
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def column(value: float) -> torch.Tensor:
    return torch.full((2, 1, 1, 1), value)


def latents(seed: int) -> torch.Tensor:
    return torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("position", [0.02, 0.5, 1.0])
def test_the_true_answer_gives_the_true_picture(kind: Prediction, position: float) -> None:
    clean, noise = latents(0), latents(1)
    step = (Flow() if kind == "flow" else VariancePreserving(tuple(DDIMScheduler(**BETAS).alphas_cumprod.tolist()))).at(position)
    a, b = column(step.a), column(step.b)
    x = a * clean + b * noise
    truth = {"epsilon": noise, "v_prediction": a * noise - b * clean, "flow": noise - clean, "sample": clean}[kind]
    torch.testing.assert_close(denoised(x, truth, a, b, kind), clean, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(network_output(x, clean, a, b, kind), truth, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(noise_in(x, clean, a, b), noise, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("timestep", [19, 299, 759])
def test_diffusers_finds_the_same_picture(kind: Prediction, timestep: int) -> None:
    scheduler = DDIMScheduler(**BETAS, prediction_type=kind, clip_sample=False)
    scheduler.set_timesteps(1000)
    x, output = latents(2), latents(3)
    theirs = scheduler.step(output, timestep, x).pred_original_sample
    step = VariancePreserving(tuple(scheduler.alphas_cumprod.tolist())).at((timestep + 1) / 1000)
    assert step.timestep == timestep
    torch.testing.assert_close(denoised(x, output, column(step.a), column(step.b), kind), theirs, atol=1e-4, rtol=1e-5)


def test_diffusers_walks_the_same_flow() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(sigmas=[1.0, 0.5])
    x, output = latents(4), latents(5)
    curve = Flow(shift=3.0)
    now, following = curve.at(1.0), curve.at(0.5)
    assert [now.timestep, following.timestep] == pytest.approx(scheduler.timesteps.tolist())
    theirs = scheduler.step(output, scheduler.timesteps[0], x).prev_sample
    x0 = denoised(x, output, column(now.a), column(now.b), "flow")
    ours = column(following.a) * x0 + column(following.b) * noise_in(x, x0, column(now.a), column(now.b))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_without_noise_the_latent_is_the_picture(kind: Prediction) -> None:
    clean = latents(6)
    out = denoised(clean, clean if kind == "sample" else latents(7), column(1.0), column(0.0), kind)
    torch.testing.assert_close(out, clean)
    assert torch.isfinite(network_output(clean, clean, column(1.0), column(0.0), kind)).all()
