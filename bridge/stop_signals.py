"""How a run is asked to end: Ctrl-C, SIGTERM and Windows' Ctrl-Break set one event; a second Ctrl-C ends at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

HARD_EXIT = 130


class StopSignals:
    """While it is entered, signals set `asked`. Main thread only; elsewhere it changes nothing."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            # SIGBREAK is there on Windows only; SIGTERM never arrives there.
            for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
                number = getattr(signal, name, None)
                if number is not None:
                    self._before[number] = signal.signal(number, self._arrived)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before.clear()

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.asked.is_set() and number != getattr(signal, "SIGTERM", None):
            os._exit(HARD_EXIT)
        self.asked.set()
