"""A clock held in the hand, a source fed by hand and a sink that remembers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from engine.frames import Frame, PixelFormat


class HandClock:
    """Time that moves only when somebody sleeps or says so."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def sleep_until(self, moment: float) -> None:
        self.time = max(self.time, moment)


class HandSource:
    """Hands out what was put, and spoils the pixels it gave before, as the contract allows it to."""

    def __init__(self) -> None:
        self.waiting: Frame | None = None
        self._given: Frame | None = None

    def put(self, value: int, captured_at: float, index: int, size: tuple[int, int] = (16, 8)) -> None:
        pixels = np.full((size[1], size[0], 4), value, dtype=np.uint8)
        self.waiting = Frame(pixels=pixels, format=PixelFormat.BGRX, captured_at=captured_at, index=index)

    def newest(self) -> Frame | None:
        if self._given is not None:
            self._given.pixels[:] = 66
        self._given, self.waiting = self.waiting, None
        return self._given

    def wait(self, timeout_seconds: float) -> bool:
        return self.waiting is not None


@dataclass(frozen=True)
class Shown:
    moment: float
    index: int
    captured_at: float
    colour: int
    size: tuple[int, int]


class MemorySink:
    """Notes each frame and the clock's time; may take time itself, or fail."""

    def __init__(self, clock: HandClock) -> None:
        self._clock = clock
        self.seconds_per_frame = 0.0
        self.failing = False
        self.shown: list[Shown] = []

    def show(self, frame: Frame) -> None:
        if self.failing:
            raise OSError("the cable is out")
        self.shown.append(
            Shown(self._clock.now(), frame.index, frame.captured_at, int(frame.pixels[0, 0, 0]), (frame.width, frame.height))
        )
        self._clock.time += self.seconds_per_frame


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def source() -> HandSource:
    return HandSource()


@pytest.fixture
def sink(clock: HandClock) -> MemorySink:
    return MemorySink(clock)
