"""Frames finished together are shown in order, each in its share of the time."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from engine.clock import MonotonicClock
from engine.frames import Frame, PixelFormat
from engine.spread import SpreadSink


class Shown:
    """A sink that notes what it is shown, when, and by which thread."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, float, str]] = []
        self.grew = threading.Condition()
        self.failing = False

    def show(self, frame: Frame) -> None:
        with self.grew:
            if self.failing:
                raise OSError("the ring is gone")
            self.frames.append((frame.index, time.monotonic(), threading.current_thread().name))
            self.grew.notify_all()

    def wait_for(self, count: int) -> list[int]:
        with self.grew:
            assert self.grew.wait_for(lambda: len(self.frames) >= count, 5)
            return [index for index, _, _ in self.frames]


def frames(*indices: int) -> list[Frame]:
    return [Frame(np.zeros((2, 2, 4), np.uint8), PixelFormat.BGRX, 0.0, index) for index in indices]


def test_frames_of_a_call_come_one_by_one_until_the_next_call() -> None:
    shown = Shown()
    spread = SpreadSink(shown, MonotonicClock())
    spread.show_together(frames(0, 1, 2))
    assert shown.wait_for(3) == [0, 1, 2]  # the first call has no time before it
    started = time.monotonic()
    while time.monotonic() - started < 0.15:
        time.sleep(0.01)
    spread.show_together(frames(3, 4, 5))
    assert [index for index, _, _ in shown.frames][:4] == [0, 1, 2, 3]
    assert shown.wait_for(6) == [0, 1, 2, 3, 4, 5]
    times = [when for _, when, _ in shown.frames][3:]
    assert times[1] - times[0] > 0.04 and times[2] - times[1] > 0.02
    assert shown.frames[3][2] == threading.current_thread().name


def test_what_still_waits_is_shown_before_anything_newer() -> None:
    shown = Shown()
    spread = SpreadSink(shown, MonotonicClock())
    spread._last_call = time.monotonic() - 60
    spread.show_together(frames(0, 1, 2))
    assert [index for index, _, _ in shown.frames] == [0]
    spread.show_all(frames(3))
    assert [index for index, _, _ in shown.frames] == [0, 1, 2, 3]
    spread.show_together([])
    spread.show_all([])
    assert len(shown.frames) == 4


def test_a_failure_on_the_way_is_told_with_the_next_frames() -> None:
    shown = Shown()
    spread = SpreadSink(shown, MonotonicClock())
    spread._last_call = time.monotonic() - 0.2
    spread.show_together(frames(1, 2))
    shown.failing = True
    deadline = time.monotonic() + 5
    while spread._error is None and time.monotonic() < deadline:
        time.sleep(0.005)
    with pytest.raises(OSError, match="ring"):
        spread.show_all(frames(3))
    shown.failing = False
    spread.show_all(frames(4))
    assert [index for index, _, _ in shown.frames] == [1, 4]
