"""An engine of several ranks under the bridge's supervisor: a rank is killed, the last frame stays, the group starts again."""

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

PATIENCE = 60.0


class Fed:
    """The engine, and a thread that feeds it."""

    def __init__(self) -> None:
        self.engine = EngineProcess(
            Settings(model="passthrough"), LiveValues(), frame_bytes=64 * 64 * 4, build="tests.engine.pipelines.idle_ranks:circulating"
        )
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._feed, daemon=True)

    def _feed(self) -> None:
        index = 0
        while not self.ended.wait(0.01):
            self.engine.put(PixelFormat.BGRA, np.zeros((16, 16, 4), np.uint8), time.monotonic(), index)
            index += 1

    def newer(self, than: int = 0) -> tuple[Frame, list[int]]:
        """A finished frame of another rank 0 than the process `than`, and the processes that made it."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            self.engine.finished.wait(0.1)
            frame = self.engine.finished.newest()
            if frame is not None and (told := frame.pixels.reshape(-1)[:16].view(np.int64).tolist())[0] != than:
                return frame, told
        raise AssertionError(f"no such frame within {PATIENCE} s: {self.engine.facts()}")


@pytest.fixture
def fed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fed]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    made = Fed()
    made.engine.start()
    made.thread.start()
    yield made
    made.ended.set()
    made.engine.stop()


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
def test_a_killed_rank_costs_a_restart_and_no_black_frame(fed: Fed) -> None:
    frame, (first, second) = fed.newer()
    assert first == fed.engine.pid != second
    os.kill(second, signal.SIGKILL)
    assert psutil.wait_procs([psutil.Process(first)] if psutil.pid_exists(first) else [], timeout=2.0)[1] == []
    assert frame.pixels.reshape(-1)[:16].view(np.int64).tolist() == [first, second], "the last frame stays readable"
    _, again = fed.newer(than=first)
    assert not {first, second} & set(again) and fed.engine.facts().restarts == 1
