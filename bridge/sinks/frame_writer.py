"""The thread and the bounded queue between whoever shows frames and a file that takes its time."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections import deque
from typing import Protocol

from engine.frames import Frame

QUEUE_FRAMES = 8
STOP_SECONDS = 30.0
log = logging.getLogger(__name__)


class SinkError(RuntimeError):
    """A sink that cannot go on; one plain sentence says why and what to do."""


class FrameFile(Protocol):
    """What frames are written to, by one thread only."""

    def write(self, frame: Frame, tick: int) -> None:
        """Write a frame. tick: its place among all frames shown; a dropped frame leaves its place empty."""
        ...

    def finish(self) -> None:
        """Complete the file and give it its final name. Nothing was written: no file."""
        ...

    def abandon(self) -> None:
        """Let go after an error: nothing appears under the final name."""
        ...


class FrameWriter:
    """Feeds a FrameFile from its own thread.

    Live, `show` never blocks: where the queue is full the frame is dropped and counted. With `every_frame` it waits
    for room instead, and raises SinkError where nothing can be written.
    """

    def __init__(self, file: FrameFile, *, name: str, every_frame: bool = False) -> None:
        self._file = file
        self._name = name
        self._every_frame = every_frame
        self._queue: deque[tuple[Frame, int]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._shown = 0
        self.written = 0
        self.dropped = 0
        self.error = ""

    @property
    def state(self) -> str:
        """writing, stopped or failed."""
        if self.error:
            return "failed"
        return "writing" if self._thread is not None and self._thread.is_alive() else "stopped"

    def start(self) -> None:
        """Start to write; a writer runs once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def show(self, frame: Frame) -> None:
        """Take a copy of the frame. Live, frames outside of start and stop and after an error are dropped and counted."""
        with self._changed:
            tick = self._shown
            self._shown += 1
            if self._every_frame:
                self._changed.wait_for(lambda: self._has_room or not self._open)
                if not self._open:
                    raise SinkError(self.error or f"{self._name} has not been started, or is stopped already")
            if not (self._open and self._has_room):
                self.dropped += 1
                return
        # Copied outside the lock, so that the writing thread is not held up; one thread shows, so room remains.
        copy = dataclasses.replace(frame, pixels=frame.pixels.copy())
        with self._changed:
            self._queue.append((copy, tick))
            self._changed.notify_all()

    def stop(self, timeout_seconds: float = STOP_SECONDS) -> None:
        """Write what waits, complete the file, end the thread. With `every_frame` a failure is raised as SinkError."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout_seconds)
            if self._thread.is_alive():
                self.error = f"{self._name} did not finish within {timeout_seconds:g} seconds: is the disk too slow?"
        if self.error and self._every_frame:
            raise SinkError(self.error)

    def describe(self) -> str:
        """One line."""
        return self._name

    @property
    def _open(self) -> bool:
        return self._thread is not None and not self._closing and not self.error

    @property
    def _has_room(self) -> bool:
        return len(self._queue) < QUEUE_FRAMES

    def _run(self) -> None:
        try:
            while (item := self._next()) is not None:
                self._file.write(*item)
                self.written += 1
            self._file.finish()
        except Exception as failure:
            with self._changed:
                self.error = f"{self._name} cannot be written: {failure}"
                self.dropped += len(self._queue)
                self._queue.clear()
                self._changed.notify_all()
            log.error("%s", self.error)
            self._file.abandon()
        if self.dropped:
            log.warning("%s: %d frames were dropped", self._name, self.dropped)

    def _next(self) -> tuple[Frame, int] | None:
        """The oldest waiting frame; None when closing and nothing waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            if not self._queue:
                return None
            item = self._queue.popleft()
            self._changed.notify_all()
            return item
