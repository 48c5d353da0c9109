"""A video model over two ranks under the bridge's supervisor: a rank is killed, the last frame stays, and the group starts again."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from bridge.supervisor import EngineProcess
from engine.control.live_values import LiveValues
from engine.frames import Frame, PixelFormat
from engine.settings import Settings
from tests.engine.models.conftest import tiny_wan  # noqa: F401

PATIENCE = 120.0


class Fed:
    """The engine, and a thread that feeds it."""

    def __init__(self, folder: Path) -> None:
        values = LiveValues()
        values.set_many({"width": 64, "height": 64, "steps": 1, "prompt": "a cat"})
        values.jump()
        settings = Settings(model=str(folder), device="cpu", dtype="float32", threads=1, ranks=2)
        self.values = values
        self.engine = EngineProcess(settings, values, frame_bytes=64 * 64 * 4)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._feed, daemon=True)

    def _feed(self) -> None:
        index = 0
        while not self.ended.wait(0.03):
            self.engine.put(PixelFormat.BGRX, np.full((64, 64, 4), index % 256, np.uint8), time.monotonic(), index)
            index += 1

    def next_frame(self, after: float) -> Frame:
        """A finished frame captured after `after`, monotonic seconds."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            self.engine.finished.wait(0.1)
            frame = self.engine.finished.newest()
            if frame is not None and frame.captured_at > after:
                return frame
        raise AssertionError(f"no such frame within {PATIENCE} s: {self.engine.facts()}")

    def further_rank(self) -> psutil.Process:
        (rank,) = psutil.Process(self.engine.pid).children()
        return rank


@pytest.fixture
def fed(tiny_wan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fed]:  # noqa: F811
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    made = Fed(tiny_wan)
    made.engine.start()
    made.thread.start()
    yield made
    made.ended.set()
    made.engine.stop()


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
def test_a_killed_rank_of_a_video_stream_costs_a_restart_and_no_broken_frame(fed: Fed) -> None:
    frame = fed.next_frame(0.0)
    shown, first, rank = frame.pixels.copy(), psutil.Process(fed.engine.pid), fed.further_rank()
    os.kill(rank.pid, signal.SIGKILL)
    lost_at = time.monotonic()
    assert psutil.wait_procs([first], timeout=2.0)[1] == [], "rank 0 did not notice within 2 s"
    assert np.array_equal(frame.pixels, shown), "the last frame stays readable"
    again = fed.next_frame(lost_at)
    assert again.pixels.shape == (64, 64, 4) and fed.engine.facts().restarts == 1
    assert fed.engine.pid != first.pid and fed.further_rank().pid != rank.pid
    others = [fed.further_rank(), psutil.Process(fed.engine.pid)]
    fed.engine.stop()
    assert psutil.wait_procs(others, timeout=5.0)[1] == []
