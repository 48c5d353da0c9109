"""The engine on a thread: the same contract, the same words."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.in_process import InProcessEngine
from engine.control.live_values import LiveValues
from engine.frames import PixelFormat
from engine.settings import Settings
from engine.shared_frames import FrameTooLarge


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[InProcessEngine, LiveValues]]]:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    engines: list[InProcessEngine] = []

    def begin(build: str, model: str = "passthrough") -> tuple[InProcessEngine, LiveValues]:
        values = LiveValues()
        engines.append(InProcessEngine(Settings(model=model), values, frame_bytes=1024, build=build))
        engines[-1].start()
        return engines[-1], values

    yield begin
    for engine in engines:
        engine.stop()


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.005)
    raise AssertionError("not within 30 s")


def test_frames_go_through_as_copies(start: Callable[..., tuple[InProcessEngine, LiveValues]]) -> None:
    engine, values = start("engine.pipelines.build:build_stream")
    pixels = np.full((4, 4, 4), 9, np.uint8)
    engine.put(PixelFormat.BGRX, pixels, 12.5, 3)
    pixels[:] = 0
    assert engine.finished.wait(30.0)
    frame = engine.finished.newest()
    assert frame is not None and (frame.pixels == 9).all()
    assert (frame.format, frame.captured_at, frame.index) == (PixelFormat.BGRX, 12.5, 3)
    assert engine.finished.newest() is None
    until(lambda: engine.facts().state == "running" and values.get("model") == "passthrough")
    assert (engine.facts().frames_in, engine.facts().frames_out, engine.facts().dropped) == (1, 1, 0)
    with pytest.raises(FrameTooLarge):
        engine.put(PixelFormat.BGRX, np.zeros((100, 100, 4), np.uint8), 0.0, 0)
    engine.stop()
    assert engine.facts().state == values.get("state") == "stopped"


def test_a_users_mistake_ends_it_and_a_fault_is_tried_again(
    start: Callable[..., tuple[InProcessEngine, LiveValues]], tmp_path: Path
) -> None:
    mistaken, _ = start("odd_streams:mistaken", model="nonsense")
    until(lambda: mistaken.facts().state == "failed")
    assert "there is no model 'nonsense'" in mistaken.facts().error
    unlucky, _ = start("odd_streams:unlucky", model=str(tmp_path / "tries"))
    until(lambda: unlucky.facts().state in ("running", "waiting"))
    assert unlucky.facts().restarts == 2
