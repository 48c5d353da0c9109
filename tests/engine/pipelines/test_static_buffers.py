"""What a captured graph relies on, shown without a GPU: a step replayed over static buffers is the eager step.

The replay here runs the function as it was at capture, on the buffers made at capture, and sees nothing else of later calls. So
a value that should have been in the key or among the tensors shows as a difference.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from engine.control.live_values import LiveValues
from engine.frames import Frame, PixelFormat
from engine.gpu.graphs import SEEN_BEFORE_CAPTURE, GraphedCalls, _Captured
from engine.pipelines.image_stream import ImageStream

Make = Callable[..., tuple[ImageStream, LiveValues]]


class Replay:
    """A graph's replay: the function again, over the same buffers, its results written where the first ones were."""

    def __init__(self, function, inputs, constants, outputs) -> None:  # type: ignore[no-untyped-def]
        self._run = lambda: function(inputs, constants)
        self._outputs = outputs

    def replay(self) -> None:
        for name, tensor in self._run().items():
            self._outputs[name].copy_(tensor)


class ReplayedCalls(GraphedCalls):
    """GraphedCalls whose graphs are Replays."""

    captures = 0

    def _capture(self, function, inputs, constants):  # type: ignore[no-untyped-def]
        self.captures += 1
        static = {name: tensor.clone() for name, tensor in inputs.items()}
        held = [tensor.clone() for tensor in constants]
        outputs = {name: tensor.clone() for name, tensor in function(static, held).items()}
        return _Captured(graph=Replay(function, static, held, outputs), inputs=static, constants=held, bound=constants, outputs=outputs)


TURNS: dict[int, dict[str, object]] = {
    8: {"prompt": "oil"}, 12: {"strength": 0.4}, 16: {"guidance": "self", "guidance_scale": 1.5}, 24: {"guidance_scale": 1.8, "delta": 0.5},
    28: {"steps": 1}, 36: {"mix": 0.5}, 40: {"mix": 0.2}, 44: {"seed": 5}, 48: {"feedback": 0.3}, 52: {"feedback": 0.6}, 56: {"mix": 1.0},
    60: {"steps": 3, "guidance": "full", "negative_prompt": "water"}, 66: {"steadiness": 0.7}, 72: {"width": 96}, 84: {"fit": "letterbox"},
    90: {"step_method": "euler"}, 96: {"guidance": "onetime"}, 106: {"cross_frame_attention": True}, 114: {"mode": "text_to_image"},
}  # fmt: skip


def pictures(stream: ImageStream, values: LiveValues) -> list[Frame]:
    random = np.random.default_rng(0)
    frames: list[Frame] = []
    for i in range(122):
        values.set_many(TURNS.get(i, {}))
        values.jump()
        alpha = PixelFormat.BGRA if i % 50 > 40 else PixelFormat.BGRX
        frames += stream.step(Frame(random.integers(0, 255, (48, 64, 4), dtype=np.uint8), alpha, i / 30, i), values.snapshot(1 / 30))
    return frames + stream.flush(values.snapshot(1 / 30))


@pytest.mark.parametrize("kind", ["sd15", "flow"])
def test_a_replayed_step_is_the_eager_step(make_stream: Make, kind: str) -> None:
    eager = pictures(*make_stream(kind, steps=2))
    stream, values = make_stream(kind, steps=2)
    calls = ReplayedCalls(enabled=True)
    stream._step._graphs = calls
    replayed = pictures(stream, values)
    assert calls.captures >= 8
    assert [frame.index for frame in replayed] == list(range(122))
    for a, b in zip(eager, replayed, strict=True):
        assert a.format is b.format
        assert np.array_equal(a.pixels, b.pixels), f"frame {a.index} differs"


def test_passing_states_are_not_captured_and_old_graphs_go() -> None:
    calls = ReplayedCalls(enabled=True, limit=2)

    def double(inputs, constants):  # type: ignore[no-untyped-def]
        return {"y": 2 * inputs["x"] + constants[0]}

    one, two = torch.ones(2), torch.full((2,), 2.0)
    for key in ("a", "b", "c"):
        for _ in range(SEEN_BEFORE_CAPTURE):
            calls(key, double, {"x": one}, (one,))
    assert calls.captures == 0
    for key in ("a", "b", "c", "a"):
        torch.testing.assert_close(calls(key, double, {"x": two}, (one,))["y"], torch.full((2,), 5.0))
    assert calls.captures == 4
    first = calls("c", double, {"x": one}, (two,))["y"]
    calls("c", double, {"x": two}, (two,))
    torch.testing.assert_close(first, torch.full((2,), 4.0))
