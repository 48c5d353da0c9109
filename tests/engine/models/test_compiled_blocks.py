"""Compiled blocks compute what they compute as they are, from graphs that all of them share; where nothing compiles, that is told."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from torch import Tensor

from engine.models import compiled_blocks
from engine.models.catalogue import resolve
from engine.models.compiled_blocks import are_compiled, compile_blocks, compile_norms, obstacle
from engine.models.video_codec import StreamVae
from engine.models.video_denoiser import VideoDenoiser
from engine.models.video_policies import VideoPolicies
from engine.pipelines.denoising import DenoisingHere
from engine.pipelines.video_build import load_model
from engine.pipelines.video_parts import DenoisingKind
from engine.settings import Settings
from engine.video.schedule import FlowGrid
from engine.video.schedulers import Chunk
from tests.engine.models.test_video_codec import clip, wan_vae

CPU = torch.device("cpu")
POLICIES = VideoPolicies(
    frames=1, window=3, sinks=1, timesteps=(700.0,), warped=False, shift=8.0, cache="adaptive_sinks", sink_threshold=0.5
)
needs_compiler = pytest.mark.skipif(not any(shutil.which(name) for name in ("g++", "clang++", "cl")), reason="needs a C++ compiler")


@torch.inference_mode()
def outputs(model: WanTransformer3DModel, chunks: int = 6) -> list[Tensor]:
    network = VideoDenoiser(model)
    run = DenoisingHere(network, POLICIES, DenoisingKind("sequential", 1, 1, (8, 12)))
    levels = FlowGrid(8.0).levels((700.0,), CPU)
    prompt = network.prompt(torch.randn((1, 8, 32), generator=torch.Generator().manual_seed(0)))
    found = []
    for seed in range(chunks):
        noise = torch.randn((1, 1, 16, 8, 12), generator=torch.Generator().manual_seed(seed))
        chunk = Chunk(noise, levels, noise[1:], run.rollout.positions.advance(1), prompt, tag=seed)
        found += [done.latent for done in run.scheduler.enter(chunk)]
    return found


def graphs() -> int:
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


@needs_compiler
def test_compiled_blocks_are_the_blocks_and_share_their_graphs() -> None:
    torch.manual_seed(0)
    model = WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=24, in_channels=16, out_channels=16, text_dim=32, freq_dim=32, ffn_dim=64, num_layers=5
    )
    model.eval().requires_grad_(False)
    plain, before = outputs(model), graphs()
    assert not are_compiled(model) and obstacle(CPU) == ""
    compile_blocks(model)
    assert are_compiled(model)
    for a, b in zip(plain, outputs(model), strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    assert graphs() - before < 5 * 5, "some graphs are made for each of the five blocks"


@needs_compiler
def test_compiled_norms_are_the_norms() -> None:
    x, vae = clip(5), wan_vae(base=4)
    plain = StreamVae(vae).decode(StreamVae(vae).encode(x))
    compile_norms(vae)
    assert torch.allclose(StreamVae(vae).decode(StreamVae(vae).encode(x)), plain, atol=1e-5)


def test_where_nothing_compiles_it_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Apple" in obstacle(torch.device("mps"))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "C++ compiler" in obstacle(CPU)
    monkeypatch.undo()

    def broken(function: object) -> object:
        raise RuntimeError("no Triton")

    monkeypatch.setattr(torch, "compile", broken)
    assert "no Triton" in obstacle(CPU) or "C++" in obstacle(CPU)


def test_a_video_model_goes_on_as_it_is_where_nothing_compiles(tiny_wan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Settings(model=str(tiny_wan), accelerate="compile")
    monkeypatch.setattr(compiled_blocks, "obstacle", lambda device: "no compiler")
    loaded, notes = load_model(asked, resolve(str(tiny_wan)), CPU, torch.float32, live=False)
    assert notes == ["no compiler; meanwhile torch runs the model as it is"] and not are_compiled(loaded.transformer)
    monkeypatch.setattr(compiled_blocks, "obstacle", lambda device: "")
    loaded, notes = load_model(asked, resolve(str(tiny_wan)), CPU, torch.float32, live=False)
    assert notes == [] and are_compiled(loaded.transformer)
