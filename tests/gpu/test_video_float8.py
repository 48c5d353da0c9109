"""The video denoiser with fp8 linears: captured is eager, and it stays near bfloat16. Needs a CUDA GPU that multiplies 8 bit floats."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import WanTransformer3DModel

from engine.models.linears import are_float8, obstacle, to_float8
from engine.models.video_denoiser import VideoDenoiser
from engine.models.video_policies import VideoPolicies
from engine.pipelines.denoising import DenoisingHere
from engine.pipelines.video_parts import DenoisingKind
from engine.video.schedule import FlowGrid
from engine.video.schedulers import Chunk


def missing() -> str:
    return obstacle(torch.device("cuda"), torch.bfloat16) if torch.cuda.is_available() else "needs a CUDA GPU"


WHY = missing()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(WHY), reason=WHY)]


@pytest.fixture(scope="module")
def model() -> WanTransformer3DModel:
    """3 layers of 4 x 64, bfloat16."""
    torch.manual_seed(0)
    made = WanTransformer3DModel(
        num_attention_heads=4, attention_head_dim=64, in_channels=16, out_channels=16, text_dim=32, freq_dim=32, ffn_dim=1024, num_layers=3
    )
    return made.eval().requires_grad_(False).to("cuda", torch.bfloat16)


@torch.inference_mode()
def outputs(model: WanTransformer3DModel, *, cuda_graph: bool) -> list[torch.Tensor]:
    policies = VideoPolicies(frames=1, window=6, sinks=2, timesteps=(700.0, 500.0), warped=False, shift=8.0)
    network, device = VideoDenoiser(model, cuda_graph=cuda_graph), torch.device("cuda")
    run = DenoisingHere(network, policies, DenoisingKind("sequential", 2, 1, (8, 12)))
    levels = FlowGrid(8.0).levels((700.0, 500.0), device)
    prompt = network.prompt(torch.randn((1, 8, 32), generator=torch.Generator().manual_seed(1)))
    found = []
    for seed in range(20):
        noise = torch.randn((2, 1, 16, 8, 12), generator=torch.Generator().manual_seed(seed)).to(device)
        found += [done.latent for done in run.scheduler.enter(Chunk(noise[:1], levels, noise[1:], run.rollout.positions.advance(1), prompt,
                                                                    tag=seed))]  # fmt: skip
    return found


def apart(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> float:
    """The largest relative difference of a latent."""
    assert len(found) == len(wanted) >= 18
    return max(float((a - b).float().norm() / b.float().norm()) for a, b in zip(found, wanted, strict=True))


def test_captured_is_eager_and_near_bfloat16(model: WanTransformer3DModel) -> None:
    eight = copy.deepcopy(model)
    to_float8(eight)
    assert are_float8(eight) and not are_float8(model)
    eager, captured = (outputs(eight, cuda_graph=graph) for graph in (False, True))
    assert apart(captured, eager) < 3e-3
    plain = outputs(model, cuda_graph=False)
    assert 1e-5 < apart(eager, plain) < 0.1


def test_half_the_bytes(model: WanTransformer3DModel) -> None:
    eight = copy.deepcopy(model)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    to_float8(eight)
    assert torch.cuda.memory_allocated() < before - 3 * 256 * (6 * 256 + 2 * 1024) * 0.9
