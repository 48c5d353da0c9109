"""A captured step is the eager step, whatever is turned between calls, and waits for nothing. Needs a CUDA GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.control.live_values import LiveValues
from engine.frames import Frame, PixelFormat
from engine.pipelines.build import build_stream
from engine.pipelines.image_stream import ImageStream
from engine.settings import Settings

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]

TURNS: dict[int, dict[str, object]] = {
    12: {"prompt": "oil"}, 16: {"strength": 0.4}, 20: {"guidance": "self", "guidance_scale": 1.5}, 28: {"guidance_scale": 1.8},
    32: {"steps": 1}, 44: {"mix": 0.5}, 50: {"seed": 5}, 56: {"steps": 4, "guidance": "full"}, 70: {"width": 96},
}  # fmt: skip


def open_stream(folder: Path, *, device: str = "cuda", **asked: object) -> tuple[ImageStream, LiveValues]:
    values = LiveValues()
    values.set_many({"width": 64, "height": 64, "steps": 2, "prompt": "a cat", "prompt_fade": 0})
    values.jump()
    stream = build_stream(Settings(model=str(folder), device=device, **asked), values.snapshot(0.0), live=False)  # type: ignore[arg-type]
    assert isinstance(stream, ImageStream)
    return stream, values


def frame(index: int) -> Frame:
    pixels = np.random.default_rng(index).integers(0, 255, (64, 64, 4), dtype=np.uint8)
    return Frame(pixels, PixelFormat.BGRX, index / 30, index)


def pictures(stream: ImageStream, values: LiveValues) -> list[Frame]:
    frames: list[Frame] = []
    for i in range(84):
        values.set_many(TURNS.get(i, {}))
        values.jump()
        frames += stream.step(frame(i), values.snapshot(1 / 30))
    return frames + stream.flush(values.snapshot(1 / 30))


@pytest.mark.parametrize("kind", ["sd15", "sdxl", "flow"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_captured_is_eager(tiny_model: Callable[[str], Path], kind: str, dtype: str) -> None:
    eager = pictures(*open_stream(tiny_model(kind), cuda_graph=False, dtype=dtype))
    captured = pictures(*open_stream(tiny_model(kind), cuda_graph=True, dtype=dtype))
    assert [done.index for done in captured] == list(range(84))
    for a, b in zip(eager, captured, strict=True):
        assert np.abs(a.pixels.astype(int) - b.pixels).mean() < (0.05 if dtype == "float32" else 1.5)


def test_cuda_is_the_cpu(tiny_model: Callable[[str], Path]) -> None:
    on_gpu, on_cpu = (open_stream(tiny_model("sd15"), device=device, dtype="float32") for device in ("cuda", "cpu"))
    first, second = (stream.step(frame(0), values.snapshot(0.0))[0].pixels for stream, values in (on_gpu, on_cpu))
    assert np.abs(first.astype(int) - second).mean() < 0.5


def test_a_call_being_under_way_loses_nothing(tiny_model: Callable[[str], Path]) -> None:
    stream, values = open_stream(tiny_model("sd15"))
    stream._overlap = 1
    assert [done.index for done in pictures(stream, values)] == list(range(84))


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_a_steady_step_never_waits_for_the_device(tiny_model: Callable[[str], Path], cuda_graph: bool) -> None:
    """The original synchronised in every call. Torch raises here on anything that makes the host wait."""
    stream, values = open_stream(tiny_model("sd15"), cuda_graph=cuda_graph)
    values.set_many({"mix": 0.5, "feedback": 0.2, "seed_mode": "random"})
    values.jump()
    stream._overlap = 100  # pictures are fetched by an event, which is the one wait there is; not within this test
    for i in range(12):
        stream.step(frame(i), values.snapshot(1 / 30))
    torch.cuda.set_sync_debug_mode("error")
    try:
        for i in range(12, 20):
            stream.step(frame(i), values.snapshot(1 / 30))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(stream.flush(values.snapshot(0.0))) > 0
