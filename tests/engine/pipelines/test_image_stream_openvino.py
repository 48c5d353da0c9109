"""A stream in OpenVINO shows torch's pictures through every live change: steps, guidance, prompt, size, cross-frame attention."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("openvino")

from engine.control.live_values import LiveValues
from engine.frames import Frame
from engine.pipelines.image_build import LoadedImageStream
from engine.runtimes.openvino_runtime import OpenVinoRuntime

Make = Callable[..., tuple[LoadedImageStream, LiveValues]]
CHANGES: tuple[dict[str, object], ...] = (
    {},
    {"steps": 2},
    {"guidance": "onetime", "guidance_scale": 2.0, "negative_prompt": "oil"},
    {"prompt": "an oil cat"},
    {"width": 72, "height": 64},
    {"guidance": "none", "cross_frame_attention": True},
)
pytestmark = pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")


def shown(stream: LoadedImageStream, values: LiveValues, moving: Callable[[int], Frame]) -> list[np.ndarray]:
    """Pictures of three frames after each of CHANGES."""
    frames = []
    for number, change in enumerate(CHANGES):
        values.set_many(change)
        values.jump()
        for index in range(3):
            frames += stream.step(moving(3 * number + index), values.snapshot(1 / 30))
    frames += stream.flush(values.snapshot(0.0))
    return [frame.pixels.astype(int) for frame in frames]


def test_every_live_change_shows_what_torch_shows(
    make_stream: Make, moving: Callable[[int], Frame], caplog: pytest.LogCaptureFixture
) -> None:
    expected = shown(*make_stream("sd15"), moving)
    runtime = OpenVinoRuntime(torch_name="torch f32", threads=1, wait=True)
    with caplog.at_level(logging.WARNING):
        pictures = shown(*make_stream("sd15", runtime=runtime), moving)
    assert len(pictures) == len(expected) == 3 * len(CHANGES)
    for own, theirs in zip(pictures, expected, strict=True):
        assert own.shape == theirs.shape and np.abs(own - theirs).max() <= 1
    assert runtime.name == "OpenVINO f32"  # whatever changed, the networks stayed with it
    assert [record.getMessage() for record in caplog.records] == [
        "with frame groups the denoiser runs in torch: OpenVINO does not take that"
    ]
