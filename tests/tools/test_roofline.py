"""The least times that the bench compares with: published operation counts, worked-out bytes, an independent count by torch."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from engine.models.video_policies import SHAPES, WanShape
from tools.bench_video_models import random_transformer, random_video_model
from tools.roofline import Ceilings, Work, cache_bytes, codec_work, denoiser_work, measured, published, tokens_of

CPU = torch.device("cpu")
LARGE, SQUARE, HD = (tokens_of(size, pixels=16) for size in ((832, 480), (512, 512), (1280, 720)))


@pytest.mark.parametrize(
    ("shape", "tokens", "frames", "window", "tera"),
    [
        ("wan-1.3b", LARGE, 1, 6, 6.74), ("wan-1.3b", LARGE, 3, 12, 28.3), ("wan-1.3b", LARGE, 3, 21, 40.4),
        ("wan-1.3b", SQUARE, 1, 6, 3.82), ("wan-1.3b", HD, 1, 6, 23.7), ("wan-14b", LARGE, 1, 6, 49.9), ("wan-14b", SQUARE, 1, 6, 30.1),
    ],
)  # fmt: skip
def test_operations_of_a_call_worked_by_hand(shape: str, tokens: int, frames: int, window: int, tera: float) -> None:
    work = denoiser_work(SHAPES[shape], tokens=tokens, frames=frames, window=window)
    assert work.flops / 1e12 == pytest.approx(tera, rel=0.005)


def test_bytes_of_a_call_worked_by_hand() -> None:
    small, large = SHAPES["wan-1.3b"], SHAPES["wan-14b"]
    assert cache_bytes(small, tokens=LARGE, slots=6) / 1e9 == pytest.approx(1.73, rel=0.005)
    assert cache_bytes(large, tokens=LARGE, slots=6) / 1e9 == pytest.approx(7.67, rel=0.005)
    one, four = (denoiser_work(small, tokens=LARGE, frames=1, window=6, rows=rows) for rows in (1, 4))
    assert one.bytes / 1e9 == pytest.approx(2.50 + 1.73, rel=0.005)
    assert four.bytes - one.bytes == 3 * cache_bytes(small, tokens=LARGE, slots=6) and four.flops == 4 * one.flops


def test_the_formula_is_what_torch_counts_in_diffusers_own_forward() -> None:
    shape = WanShape(layers=3, heads=2, ffn_dim=96, head_dim=16, text_dim=24, freq_dim=16)
    model, frames, side, prompt = random_transformer(shape, device=CPU, dtype=torch.float32), 3, 8, 7
    x, told = torch.randn(1, 16, frames, side, side), torch.full((1,), 500.0)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        out = model(hidden_states=x, timestep=told, encoder_hidden_states=torch.randn(1, prompt, 24), return_dict=False)[0]
    assert torch.isfinite(out).all() and 0.1 < out.std() < 10
    tokens, d = side * side // 4, shape.width
    ours = denoiser_work(shape, tokens=tokens, frames=frames, window=frames, prompt_tokens=prompt)
    # Beside the layers: patches in and out, the text and its keys and values, which a stream computes once a prompt, and the timestep.
    patches = 2 * 2 * 64 * d * frames * tokens
    text = prompt * 2 * (24 * d + d * d + shape.layers * 2 * d * d)
    time = 2 * (16 * d + d * d + 6 * d * d)
    assert counter.get_total_flops() == ours.flops + patches + text + time


def test_operations_and_bytes_of_the_codecs_are_the_published_ones() -> None:
    meta = torch.device("meta")
    for codec, encode, decode in (("own", 8.05, 13.55), ("tiny", 0.24, 0.54)):
        loaded = random_video_model("tiny", "streamdiffusion-v2", codec=codec, device=CPU, dtype=torch.bfloat16)
        if codec == "own":
            from diffusers import AutoencoderKLWan

            with meta:
                object.__setattr__(loaded, "vae", AutoencoderKLWan())
        work = codec_work(loaded, (832, 480), frames=1)
        assert work.encode.flops / 1e12 == pytest.approx(encode, rel=0.03)
        assert work.decode.flops / 1e12 == pytest.approx(decode, rel=0.03)
        published = {"own": (6.6e9, 10.1e9, 3.01e9), "tiny": (1.3e9, 1.9e9, 0.117e9)}[codec]
        assert (work.encode.bytes, work.decode.bytes, work.session_bytes) == pytest.approx(published, rel=0.03)


def test_a_stage_takes_the_longer_of_its_operations_and_its_bytes() -> None:
    ceilings = Ceilings(flops=100.0, bytes=10.0, source="")
    assert Work(flops=200.0, bytes=10.0).seconds(ceilings) == 2.0
    assert Work(flops=200.0, bytes=40.0).seconds(ceilings) == 4.0


def test_the_published_roofline_of_two_steps_with_wans_autoencoder() -> None:
    ceilings = Ceilings(flops=790e12, bytes=4.3e12, source="")
    call = denoiser_work(SHAPES["wan-1.3b"], tokens=LARGE, frames=1, window=6).seconds(ceilings)
    codec = (8.05 + 13.55) / 790
    assert 4 / (2 * call + codec) == pytest.approx(90, abs=1.0) and 4 / call == pytest.approx(469, abs=2.0)


@pytest.mark.parametrize(
    ("name", "sheet"),
    [("NVIDIA H200", 4.8), ("NVIDIA H100 80GB HBM3", 3.35), ("NVIDIA H100 PCIe", 2.0), ("NVIDIA GeForce RTX 4090", 1.008)],
)
def test_devices_are_known_by_their_names(name: str, sheet: float) -> None:
    found = published(name)
    assert found is not None and found.bytes == sheet * 1e12
    assert published("cpu") is None


def test_no_product_is_quicker_than_the_measured_ceiling_says() -> None:
    ceilings = measured(CPU, torch.float32)
    assert 1e8 < ceilings.flops < 1e14 and 1e7 < ceilings.bytes < 1e13
