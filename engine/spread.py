"""Frames that were finished together are shown one after the other, evenly over the time until the next ones.

A frame buffer gives several frames a call; shown at once, all but the last would be lost to whoever takes the newest.
"""

from __future__ import annotations

import threading
from collections import deque

from engine.frames import Frame
from engine.ports import Clock, Sink

LONGEST_SECONDS = 1.0
"""Time over which frames of one call are spread at most."""


class SpreadSink:
    """A sink before another. `show_together` takes the frames of one call; the first is shown at once, by the caller's thread."""

    def __init__(self, sink: Sink, clock: Clock) -> None:
        self._sink = sink
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: deque[tuple[float, Frame]] = deque()
        self._last_call: float | None = None
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def show_together(self, frames: list[Frame]) -> None:
        """Show these in order. Frames of the call before that were still waiting are shown first, at once."""
        if not frames:
            return
        now = self._clock.now()
        with self._changed:
            self._show_waiting()
            self._sink.show(frames[0])
            between = min(now - self._last_call, LONGEST_SECONDS) if self._last_call is not None else 0.0
            self._last_call = now
            for place, frame in enumerate(frames[1:], start=1):
                self._waiting.append((now + between * place / len(frames), frame))
            if self._waiting:
                self._start()
                self._changed.notify()

    def show_all(self, frames: list[Frame]) -> None:
        """Show these now, in order, after those that were still waiting."""
        with self._changed:
            self._show_waiting()
            for frame in frames:
                self._sink.show(frame)

    def _show_waiting(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error
        while self._waiting:
            self._sink.show(self._waiting.popleft()[1])

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="spread", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                left = self._waiting[0][0] - self._clock.now()
                if left <= 0:
                    try:
                        self._sink.show(self._waiting.popleft()[1])
                    except Exception as error:  # told to the caller with his next frames
                        self._error = error
                else:
                    self._changed.wait(left)
