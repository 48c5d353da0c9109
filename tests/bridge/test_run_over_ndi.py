"""A whole run between a real NDI sender and a real NDI receiver: pictures through, tally back, a lost source regained."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.ndi import library
from bridge.ndi.receiver import NdiReceiver
from bridge.ndi.sender import NdiSender
from bridge.sinks.colour import to_bgra
from bridge.sources.index_blocks import read_index
from bridge.sources.test_pattern import TestPattern
from engine.frames import Frame, PixelFormat, Pixels

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 40.0
pytestmark = pytest.mark.skipif(not library.check()[0], reason="NDI cannot be loaded on this machine")


class Stage:
    """A camera that sends numbered pictures, and a screen that notes the numbers it receives."""

    def __init__(self) -> None:
        self.camera_name, self.effect_name = f"camera {os.getpid()}", f"effect {os.getpid()}"
        self.seen: list[int | None] = []
        self.sender: NdiSender | None = None
        self.screen = NdiReceiver(source=self.effect_name, put=self._note, receiver_name="screen")
        self._pattern = TestPattern(self._send, 192, 128, 30.0)
        self._pattern.start()
        self.screen.start()

    def plug_in(self) -> None:
        self.sender = NdiSender(name=self.camera_name, frame_rate=30)
        self.sender.start()

    def pull_out(self) -> None:
        assert self.sender is not None
        sender, self.sender = self.sender, None
        sender.stop()

    def close(self) -> None:
        self._pattern.stop()
        self.screen.stop()
        if self.sender is not None:
            self.pull_out()

    def _send(self, format: PixelFormat, pixels: Pixels, captured_at: float, index: int) -> None:
        if (sender := self.sender) is not None:
            sender.show(Frame(pixels=pixels, format=format, captured_at=captured_at, index=index))

    def _note(self, format: PixelFormat, pixels: Pixels, captured_at: float, index: int) -> None:
        frame = Frame(pixels=pixels, format=format, captured_at=captured_at, index=index)
        self.seen.append(read_index(to_bgra(frame)))


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


def until(condition: Callable[[], object], what: str, patience_seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + patience_seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_pictures_go_through_tally_comes_back_and_a_lost_source_is_regained(stage: Stage) -> None:
    command = [
        sys.executable, "-m", "bridge", "run", "--model", "passthrough", "--osc-port", "0", "--no-web",
        "--source", f"ndi:{stage.camera_name}", "--sink", f"ndi:{stage.effect_name}",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        stage.plug_in()
        until(lambda: len({index for index in stage.seen if index is not None}) > 30, "no picture came through")
        numbers = [index for index in stage.seen if index is not None]
        assert numbers == sorted(numbers)

        stage.screen.set_tally(program=True, preview=False)
        camera = stage.sender
        assert camera is not None
        until(lambda: camera.statistics().on_program, "the tally never came back")

        stage.pull_out()
        count = len(stage.seen)
        until(lambda: len(stage.seen) > count + 60, "the output ended with its source")  # it holds the last picture
        stage.plug_in()
        last = numbers[-1]
        until(lambda: (stage.seen[-1] or 0) > last + 90, "the source was not found again")
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
    finally:
        process.kill()
        output, errors = process.communicate()
    assert "Traceback" not in errors, errors
    assert stage.effect_name in output
