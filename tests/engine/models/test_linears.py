"""Linears in 8 bits: which ones, against a closed form of rounding to float8_e4m3fn, and what is told where they cannot be."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from torch import Tensor, nn

from engine.control.live_values import LiveValues
from engine.models import linears
from engine.models.catalogue import resolve
from engine.models.linears import are_float8, chosen_linears, obstacle, shared_input, to_float8
from engine.models.video_denoiser import VideoDenoiser
from engine.models.video_policies import VideoPolicies
from engine.pipelines import video_build
from engine.pipelines.denoising import DenoisingHere
from engine.pipelines.video_build import load_model
from engine.pipelines.video_parts import DenoisingKind
from engine.settings import Settings
from engine.video.schedule import FlowGrid
from engine.video.schedulers import Chunk

needs_torchao = pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="needs torchao: pip install -e '.[fp8]'")
CUDA = torch.device("cuda", 0)
HOT = {"attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "attn2.to_q", "attn2.to_out.0", "ffn.net.0.proj", "ffn.net.2"}


def model() -> Any:
    """2 layers of 2 x 16, the same every time."""
    torch.manual_seed(0)
    made = WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, text_dim=8, freq_dim=16, ffn_dim=64, num_layers=2,
    )  # fmt: skip
    return made.eval().requires_grad_(False).to(torch.bfloat16)


def test_linears_of_the_blocks_are_chosen_and_no_others() -> None:
    blocks = len(model().blocks)
    assert set(chosen_linears(model())) == {f"blocks.{block}.{name}" for block in range(blocks) for name in HOT}


def test_linears_whose_sides_are_no_multiples_of_16_stay() -> None:
    odd = model()
    odd.blocks[0].ffn.net[2] = nn.Linear(odd.blocks[0].ffn.net[2].in_features, 24)
    assert "blocks.0.ffn.net.2" not in chosen_linears(odd)


def rounded(x: Tensor) -> Tensor:
    """The nearest of float8_e4m3fn's numbers, ties to even: 3 bits after the leading one, exponents from -6 on, at most 448."""
    step = torch.exp2(torch.floor(torch.log2(x.abs().clamp(min=2.0**-6))) - 3)
    return (torch.round(x / step) * step).clamp(-448, 448)


def by_rows(x: Tensor) -> Tensor:
    """Rounded with a scale a row, and scaled back."""
    scale = x.abs().amax(-1, keepdim=True).clamp(min=1e-12) / 448
    return rounded(x / scale) * scale


@needs_torchao
@torch.inference_mode()
def test_a_linear_multiplies_what_is_rounded() -> None:
    from engine.models.float8_linear import Float8Linear, quantised

    torch.manual_seed(3)
    linear = nn.Linear(64, 48, dtype=torch.bfloat16)
    x = torch.randn((2, 5, 64)).mul(torch.logspace(-3, 3, 5)[:, None]).to(torch.bfloat16)
    x[0, 1] = 0.0
    back = quantised(x).dequantize(torch.float32)  # type: ignore[attr-defined]
    assert torch.allclose(back, by_rows(x.float()), rtol=1e-6, atol=0)
    eight = Float8Linear(linear)
    wanted = by_rows(x.double()) @ eight.weight.dequantize(torch.float64).T + linear.bias.double()  # type: ignore[operator]
    found = eight(x)
    assert found.dtype == torch.bfloat16 and torch.allclose(found.double(), wanted, rtol=2**-7, atol=1e-3)
    assert torch.equal(found[0, 1], linear.bias)
    assert torch.equal(eight(quantised(x)), found)
    weight = eight.weight.dequantize(torch.float32)  # type: ignore[operator]
    assert float((weight - linear.weight).norm() / linear.weight.norm()) < 0.04


@needs_torchao
@torch.inference_mode()
def test_rows_of_zeros_in_weights_give_zeros() -> None:
    from engine.models.float8_linear import Float8Linear

    linear = nn.Linear(32, 32, bias=False, dtype=torch.bfloat16)
    linear.weight.data[7] = 0.0
    found = Float8Linear(linear)(torch.ones((3, 32), dtype=torch.bfloat16))
    assert bool(found.isfinite().all()) and not found[:, 7].any()


@needs_torchao
@torch.inference_mode()
def test_a_transformer_in_8_bits_stays_near_bfloat16() -> None:
    plain, eight = model(), model()
    to_float8(eight)
    kept = dict(eight.named_modules())
    to_float8(eight)
    assert dict(eight.named_modules()) == kept  # a second time changes nothing
    assert are_float8(eight) and not are_float8(plain) and not chosen_linears(eight)
    (wanted, pairs), (found, same) = outputs(plain), outputs(eight)
    assert all(torch.equal(a, b) for a, b in zip(same, pairs, strict=True))  # keys and values of the prompt are as they were
    error = max(float((a - b).norm() / b.norm()) for a, b in zip(found, wanted, strict=True))
    assert 0.0 < error < 0.1


def outputs(transformer: Any) -> tuple[list[Tensor], list[Tensor]]:
    """(latents of a few chunks, the prompt's keys and values)."""
    network = VideoDenoiser(transformer)
    policies = VideoPolicies(frames=1, window=4, sinks=1, timesteps=(700.0, 500.0), warped=False, shift=8.0)
    run = DenoisingHere(network, policies, DenoisingKind("sequential", 2, 1, (4, 4)))
    prompt = network.prompt(torch.randn((1, 5, 8), generator=torch.Generator().manual_seed(1)))
    levels, found = FlowGrid(8.0).levels((700.0, 500.0), torch.device("cpu")), []
    for seed in range(6):
        noise = torch.randn((2, 1, 4, 4, 4), generator=torch.Generator().manual_seed(seed))
        chunk = Chunk(noise[:1], levels, noise[1:], run.rollout.positions.advance(1), prompt, tag=seed)
        found += [done.latent for done in run.scheduler.enter(chunk)]
    return found, [tensor for pair in prompt.pairs for tensor in pair]


def test_plain_linears_take_their_input_as_it_is() -> None:
    x = torch.ones((1, 2, 16))
    assert shared_input(x, nn.Linear(16, 16), nn.Linear(16, 16)) is x


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A GPU that can do it, and torchao."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old Card")
    monkeypatch.setattr(linears, "find_spec", lambda name: object())
    monkeypatch.setattr(linears, "_failure", lambda device: "")
    return monkeypatch


def test_what_is_missing_is_told(gpu: pytest.MonkeyPatch) -> None:
    assert obstacle(CUDA, torch.bfloat16) == ""
    assert "this run is on cpu" in obstacle(torch.device("cpu"), torch.bfloat16)
    assert "this run is on mps" in obstacle(torch.device("mps"), torch.bfloat16)
    assert "not with float16" in obstacle(CUDA, torch.float16)
    gpu.setattr(linears, "find_spec", lambda name: None)
    assert 'python -m pip install -e ".[fp8]"' in obstacle(CUDA, torch.bfloat16)
    gpu.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    assert "Old Card has 8.6" in obstacle(CUDA, torch.bfloat16)


def test_a_first_product_that_fails_is_told() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU, where it would not fail")
    assert "do not run here" in linears._failure(CUDA)


def test_a_run_that_cannot_have_them_says_so_and_goes_on(tiny_wan: Path) -> None:
    card, told = resolve(str(tiny_wan)), Settings(device="cpu", linears="fp8")
    loaded, notes = load_model(told, card, torch.device("cpu"), torch.float32, live=False)
    assert len(notes) == 1 and "this run is on cpu" in notes[0] and notes[0].endswith("meanwhile they run in f32")
    assert not are_float8(loaded.transformer)
    _, notes = load_model(told, card, torch.device("cpu"), torch.float32, live=False, parts=("vae",))
    assert notes == []  # the codec's rank


@needs_torchao
def test_a_run_that_can_has_them(tiny_wan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_build, "obstacle", lambda device, dtype: "")
    asked = Settings(device="cpu", dtype="bfloat16", linears="fp8")
    loaded, notes = load_model(asked, resolve(str(tiny_wan)), torch.device("cpu"), torch.bfloat16, live=False)
    assert notes == [] and are_float8(loaded.transformer)
    values = LiveValues()
    values.set_many({"width": 32, "height": 32})
    values.jump()
    stream = video_build.assemble(loaded, values.snapshot(0.0), encoder=loaded.prompts(), wait=True)
    assert stream.runtime == "torch bf16, fp8 linears"
