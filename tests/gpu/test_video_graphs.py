"""A captured call of the video denoiser is the eager call, for every cache policy and step scheduler. Needs a CUDA GPU."""

from __future__ import annotations

import pytest
import torch
from diffusers import WanTransformer3DModel

from engine.models.video_denoiser import VideoDenoiser
from engine.models.video_policies import VideoPolicies
from engine.pipelines.denoising import DenoisingHere
from engine.pipelines.video_parts import DenoisingKind
from engine.video.schedule import FlowGrid
from engine.video.schedulers import Chunk

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]

BASE = {"frames": 1, "window": 6, "sinks": 2, "timesteps": (700.0, 500.0), "warped": False, "shift": 8.0}
POLICIES: dict[str, dict[str, object]] = {
    "ring": {"positions": "absolute"},
    "relative": {},
    "reset": {"positions": "reset", "reset_at": 12, "restart_at": 5},
    "adaptive": {"cache": "adaptive_sinks", "sink_threshold": 0.5},
    "ema": {"cache": "ema_sinks", "ema": 0.9},
    "memories": {"cache": "two_ema_memory"},
    "deep": {"cache": "deep_sinks"},
}
FULL, CYCLE = 20, 8
"""Chunks after which every window has turned; chunks in which positions that jump back do so once and every slot is taken."""


@pytest.fixture(scope="module")
def model() -> WanTransformer3DModel:
    """3 layers of 2 x 64, float32."""
    torch.manual_seed(0)
    made = WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=64, in_channels=16, out_channels=16, text_dim=32, freq_dim=32, ffn_dim=256, num_layers=3
    )
    return made.eval().requires_grad_(False).to("cuda")


@torch.inference_mode()
def outputs(model: WanTransformer3DModel, policies: VideoPolicies, scheduler: str, *, cuda_graph: bool) -> list[torch.Tensor]:
    network, device = VideoDenoiser(model, cuda_graph=cuda_graph), torch.device("cuda")
    run = DenoisingHere(network, policies, DenoisingKind(scheduler, 2, 1, (8, 12)))
    levels = FlowGrid(8.0).levels((700.0, 500.0), device)
    prompts = [network.prompt(torch.randn((1, 8, 32), generator=torch.Generator().manual_seed(n))) for n in range(2)]
    found = []
    for seed in range(40):
        noise = torch.randn((2, 1, 16, 8, 12), generator=torch.Generator().manual_seed(seed)).to(device)
        chunk = Chunk(noise[:1], levels, noise[1:], run.rollout.positions.advance(1), prompts[seed >= 25], tag=seed)
        found += [done.latent for done in run.scheduler.enter(chunk)]
    return found


@pytest.mark.parametrize("scheduler", ["sequential", "clean_rerun", "stream_batch", "rolling_window"])
@pytest.mark.parametrize("name", POLICIES)
def test_captured_is_eager(model: WanTransformer3DModel, name: str, scheduler: str) -> None:
    if (name, scheduler) == ("adaptive", "rolling_window"):
        pytest.skip("sinks that adapt do not go with a moving buffer")
    policies = VideoPolicies(**{**BASE, **POLICIES[name]})  # type: ignore[arg-type]
    eager, captured = (outputs(model, policies, scheduler, cuda_graph=graph) for graph in (False, True))
    assert len(eager) == len(captured) >= 38
    for a, b in zip(eager, captured, strict=True):
        assert torch.allclose(a, b, atol=2e-4)


@pytest.mark.parametrize("scheduler", ["sequential", "stream_batch"])
@pytest.mark.parametrize("name", POLICIES)
def test_a_call_waits_for_nothing(model: WanTransformer3DModel, name: str, scheduler: str) -> None:
    network = VideoDenoiser(model)
    device = network.device
    policies = VideoPolicies(**{**BASE, **POLICIES[name]})  # type: ignore[arg-type]
    run = DenoisingHere(network, policies, DenoisingKind(scheduler, 2, 1, (8, 12)))
    levels = FlowGrid(8.0).levels((700.0, 500.0), device)
    prompt, noise = network.prompt(torch.zeros((1, 8, 32))), torch.randn((2, 1, 16, 8, 12), device=device)

    def enter(number: int) -> None:
        run.scheduler.enter(Chunk(noise[:1], levels, noise[1:], run.rollout.positions.advance(1), prompt, tag=number))

    with torch.inference_mode():
        for number in range(FULL):
            enter(number)
        torch.cuda.set_sync_debug_mode("error")
        try:
            for number in range(FULL, FULL + CYCLE):
                enter(number)
        finally:
            torch.cuda.set_sync_debug_mode("default")
