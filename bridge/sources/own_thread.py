"""The thread that a source owns: started once, told to stop, joined within a bound; and the beat it keeps."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable

from engine.frames import PixelFormat, Pixels

Put = Callable[[PixelFormat, Pixels, float, int], None]
"""Takes (format, pixels, captured_at, index), copies the pixels before it returns and never blocks."""

STOP_SECONDS = 2.0
log = logging.getLogger(__name__)


class SourceError(RuntimeError):
    """A source that cannot be had; one plain sentence says why and what to do."""


class OwnThread:
    """Runs `body` on a named thread until it returns. `body` looks at `stopping` at least every half second.

    An exception of `body` is logged and kept in `error` as one sentence: the thread ends, the process goes on.
    """

    def __init__(self, name: str, body: Callable[[threading.Event], None]) -> None:
        self.stopping = threading.Event()
        self.error = ""
        self._name = name
        self._body = body
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """True from `start` until the body has returned."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start the thread; nothing happens if it runs."""
        if self.running:
            return
        self.stopping.clear()
        self.error = ""
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self, timeout_seconds: float = STOP_SECONDS) -> bool:
        """Ask the body to end and wait for it; False if it did not end in time (it is then left to itself)."""
        self.stopping.set()
        if self._thread is None or self._thread is threading.current_thread():
            return True
        self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            log.warning("the thread %s did not end within %.1f s and is left to itself", self._name, timeout_seconds)
            return False
        return True

    def _run(self) -> None:
        try:
            self._body(self.stopping)
        except SourceError as failure:
            self.error = str(failure)
            log.error("%s: %s", self._name, failure)
        except Exception as failure:
            self.error = f"{self._name} stopped on a fault of its own: {failure}"
            log.exception("%s stopped on a fault of its own", self._name)


def next_beat(due: float, period: float, now: float) -> float:
    """When the beat after `due` falls (seconds): beats that were missed altogether are left out, the grid stays.

    A thread that woke late is not followed by a burst, and its lateness does not add up.
    """
    missed = max(0, math.floor((now - due) / period))
    return due + (missed + 1) * period
