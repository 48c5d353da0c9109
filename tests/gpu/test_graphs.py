"""A captured step is the eager step, whatever is turned between calls. Needs a CUDA GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.control.live_values import LiveValues
from engine.frames import Frame, PixelFormat
from engine.pipelines.build import build_stream
from engine.settings import Settings

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]

TURNS: dict[int, dict[str, object]] = {
    12: {"prompt": "oil"}, 16: {"strength": 0.4}, 20: {"guidance": "self", "guidance_scale": 1.5}, 28: {"guidance_scale": 1.8},
    32: {"steps": 1}, 44: {"mix": 0.5}, 50: {"seed": 5}, 56: {"steps": 4, "guidance": "full"}, 70: {"width": 96},
}  # fmt: skip


def pictures(folder: Path, *, graph: bool, live: bool, dtype: str) -> list[Frame]:
    values = LiveValues()
    values.set_many({"width": 64, "height": 64, "steps": 2, "prompt": "a cat", "prompt_fade": 0})
    values.jump()
    stream = build_stream(Settings(model=str(folder), device="cuda", dtype=dtype, cuda_graph=graph), values.snapshot(0.0), live=live)
    random = np.random.default_rng(0)
    frames: list[Frame] = []
    for i in range(84):
        values.set_many(TURNS.get(i, {}))
        values.jump()
        pixels = random.integers(0, 255, (64, 64, 4), dtype=np.uint8)
        frames += stream.step(Frame(pixels, PixelFormat.BGRX, i / 30, i), values.snapshot(1 / 30))
    return frames + stream.flush(values.snapshot(1 / 30))


@pytest.mark.parametrize("kind", ["sd15", "sdxl", "flow"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_captured_is_eager(tiny_model: Callable[[str], Path], kind: str, dtype: str) -> None:
    eager = pictures(tiny_model(kind), graph=False, live=False, dtype=dtype)
    captured = pictures(tiny_model(kind), graph=True, live=True, dtype=dtype)
    assert [frame.index for frame in captured] == list(range(84))
    for a, b in zip(eager, captured, strict=True):
        assert np.abs(a.pixels.astype(int) - b.pixels).mean() < (0.05 if dtype == "float32" else 1.5)


def test_cuda_is_the_cpu(tiny_model: Callable[[str], Path]) -> None:
    on_gpu = pictures(tiny_model("sd15"), graph=True, live=False, dtype="float32")
    values = LiveValues()
    values.set_many({"width": 64, "height": 64, "steps": 2, "prompt": "a cat", "prompt_fade": 0})
    values.jump()
    stream = build_stream(Settings(model=str(tiny_model("sd15")), device="cpu", dtype="float32"), values.snapshot(0.0), live=False)
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 4), dtype=np.uint8)
    (first,) = stream.step(Frame(pixels, PixelFormat.BGRX, 0.0, 0), values.snapshot(0.0))
    assert np.abs(first.pixels.astype(int) - on_gpu[0].pixels).mean() < 0.5
