"""Streams that misbehave, and a bridge that can be killed: importable, as `spawn` needs it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from engine.control.live_values import Snapshot
from engine.frames import Frame
from engine.pipelines.passthrough import Passthrough
from engine.settings import Settings, SettingsError


class Telling(Passthrough):
    """Writes its process, the seed, the prompt and the triggers counted so far into the first pixels of every frame."""

    def __init__(self) -> None:
        super().__init__()
        self.fired = 0

    def step(self, frame: Frame | None, values: Snapshot) -> list[Frame]:
        self.fired += "reset" in values.fired
        if frame is None:
            return []
        super().step(frame, values)
        pixels = frame.pixels.copy()
        told = [os.getpid(), values.whole("seed"), len(values.text("prompt")), self.fired]
        pixels.reshape(-1)[:32] = np.array(told, np.int64).view(np.uint8)
        return [Frame(pixels, frame.format, frame.captured_at, frame.index)]


class Wedged(Passthrough):
    """Hangs for ever in its 20th step, the first time."""

    def __init__(self, seen: Path) -> None:
        super().__init__()
        self.seen, self.count = seen, 0

    def step(self, frame: Frame | None, values: Snapshot) -> list[Frame]:
        self.count += 1
        if self.count == 20 and not self.seen.exists():
            self.seen.touch()
            while True:
                time.sleep(60)
        return super().step(frame, values)


class Failing(Passthrough):
    """Fails in every step."""

    def step(self, frame: Frame | None, values: Snapshot) -> list[Frame]:
        raise RuntimeError("this stream always fails")


def telling(settings: Settings, values: Snapshot, *, live: bool) -> Passthrough:
    return Telling()


def wedged(settings: Settings, values: Snapshot, *, live: bool) -> Passthrough:
    return Wedged(Path(settings.model))


def failing(settings: Settings, values: Snapshot, *, live: bool) -> Passthrough:
    return Failing()


def mistaken(settings: Settings, values: Snapshot, *, live: bool) -> Passthrough:
    raise SettingsError(f"there is no model {settings.model!r}; choose one of a, b, c")


def unlucky(settings: Settings, values: Snapshot, *, live: bool) -> Passthrough:
    """Fails to load twice, then works."""
    tries = Path(settings.model)
    tried = len(tries.read_text()) if tries.exists() else 0
    tries.write_text("x" * (tried + 1))
    if tried < 2:
        raise OSError("the disk was slow")
    return Passthrough()


def run_bridge() -> None:
    """A bridge of its own: feeds frames until it is interrupted; prints the engine's process once frames come back."""
    from bridge.supervisor import EngineProcess
    from engine.control.live_values import LiveValues
    from engine.frames import PixelFormat

    engine = EngineProcess(Settings(model="passthrough"), LiveValues(), frame_bytes=10_000, build="odd_streams:telling")
    engine.start()
    try:
        index, told = 0, False
        while True:
            engine.put(PixelFormat.BGRA, np.zeros((8, 8, 4), np.uint8), time.monotonic(), index)
            index += 1
            if engine.finished.wait(0.01) and engine.finished.newest() is not None and not told:
                told = True
                print(engine.pid, flush=True)
    except KeyboardInterrupt:
        engine.stop()
        print("stopped", flush=True)


if __name__ == "__main__":
    run_bridge()
