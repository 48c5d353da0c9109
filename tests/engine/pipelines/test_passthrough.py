"""The stream that changes nothing."""

from __future__ import annotations

import numpy as np

from engine.control.live_values import LiveValues
from engine.frames import Frame, PixelFormat
from engine.pipelines.build import build_stream
from engine.settings import PASSTHROUGH, Settings


def test_frames_leave_as_they_came() -> None:
    values = LiveValues().snapshot(0.0)
    stream = build_stream(Settings(model=PASSTHROUGH), values, live=True)
    assert (stream.model, stream.size) == ("passthrough", (0, 0))
    for index in range(3):
        frame = Frame(np.full((4, 6, 2), index, np.uint8), PixelFormat.UYVY, 0.25 * index, index)
        assert stream.step(frame, values) == [frame]
    assert stream.size == (6, 4)
    assert stream.step(None, values) == stream.flush(values) == []
    stream.reset()
    assert (stream.in_flight, stream.skipped, stream.stage_ms()) == (0, 0, {})
