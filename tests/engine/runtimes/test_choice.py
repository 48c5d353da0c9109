"""Which runtime a run gets."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("openvino")

from engine.control.live_values import LiveValues
from engine.frames import Frame, PixelFormat
from engine.pipelines.image_build import build_image_stream
from engine.runtimes.choice import LARGEST_AUTO, choose_runtime
from engine.runtimes.openvino_runtime import OpenVinoRuntime
from engine.runtimes.runtime import Runtime, TorchRuntime
from engine.settings import Settings, SettingsError

pytestmark = pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def chosen(accelerate: str, *, device: torch.device = CPU, parameters: int = 1000, live: bool = True) -> Runtime:
    settings = Settings(accelerate=accelerate)
    return choose_runtime(settings, device=device, dtype=torch.float32, parameters=parameters, live=live)


def test_auto_is_openvino_for_a_live_run_of_a_small_model_on_a_cpu_and_torch_elsewhere() -> None:
    assert Settings().accelerate == "auto"
    assert isinstance(chosen("auto"), OpenVinoRuntime)
    for other in (chosen("auto", live=False), chosen("auto", device=CUDA), chosen("auto", parameters=LARGEST_AUTO + 1), chosen("none")):
        assert isinstance(other, TorchRuntime)
    assert isinstance(chosen("openvino", live=False, parameters=LARGEST_AUTO + 1), OpenVinoRuntime)
    assert chosen("compile").name == "torch.compile f32" and chosen("none").name == "torch f32"
    assert chosen("auto", device=CUDA).name == "torch f32, CUDA graphs"


def test_on_a_gpu_openvino_is_left_out_with_a_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert isinstance(chosen("openvino", device=CUDA), TorchRuntime)
    assert len(caplog.records) == 1 and "cuda" in caplog.text


def test_without_openvino_auto_is_torch_and_asking_for_it_a_plain_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "engine.runtimes.openvino_network", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)  # an import then fails as if it were not installed
    assert isinstance(chosen("auto"), TorchRuntime)
    with pytest.raises(SettingsError, match="pip install openvino"):
        chosen("openvino")


def frames(count: int) -> list[Frame]:
    generator = np.random.default_rng(0)
    return [Frame(generator.integers(0, 256, (64, 64, 4), np.uint8), PixelFormat.BGRX, i / 30, i) for i in range(count)]


def values_of(**asked: object) -> LiveValues:
    values = LiveValues()
    values.set_many({"width": 64, "height": 64, "prompt": "a cat", "prompt_fade": 0, "strength": 0.7, **asked})
    values.jump()
    return values


@pytest.mark.parametrize("accelerate", ["auto", "openvino"])
def test_a_live_stream_starts_in_torch_and_says_what_is_to_come(tiny_model: Callable[[str], Path], accelerate: str) -> None:
    values = values_of()
    settings = Settings(model=str(tiny_model("flow")), device="cpu", dtype="float32", threads=1, accelerate=accelerate)
    stream = build_image_stream(settings, values.snapshot(0.0), live=True)
    coming = "torch f32 (OpenVINO is being prepared)"
    assert stream.runtime == coming
    # A shape is compiled after a few calls at the earliest: these come from torch, whatever runs beside.
    assert len(stream.step(frames(1)[0], values.snapshot(0.0))) == 1 and stream.runtime == coming
    if accelerate == "auto":
        return
    for frame in frames(4):
        stream.step(frame, values.snapshot(1 / 30))
    stream.networks.settle()
    assert stream.runtime == "OpenVINO f32"
    assert len(stream.step(frames(1)[0], values.snapshot(1 / 30))) == 1


def test_rendering_repeats_itself_under_auto_and_under_openvino(tiny_model: Callable[[str], Path]) -> None:
    """Offline no stopwatch decides: auto is torch, and openvino is waited for."""
    for accelerate, name in (("auto", "torch f32"), ("openvino", "OpenVINO f32")):
        settings = Settings(model=str(tiny_model("flow")), device="cpu", dtype="float32", threads=1, accelerate=accelerate)
        runs = []
        for _ in range(2):
            values = values_of(steps=2)
            stream = build_image_stream(settings, values.snapshot(0.0), live=False)
            out = [done for frame in frames(4) for done in stream.step(frame, values.snapshot(1 / 30))]
            runs.append([done.pixels for done in out + stream.flush(values.snapshot(0.0))])
            assert stream.runtime == name
        assert len(runs[0]) == 4
        assert all(np.array_equal(a, b) for a, b in zip(*runs, strict=True))
