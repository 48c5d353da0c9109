"""One child process of an NDI device from its start to its end, and in words why it is gone. What follows: `keeper`."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any

GOODBYE_SECONDS = 1.2
INSIST_SECONDS = 0.3

Launch = tuple[Callable[[Any], None], object]
"""The function a child runs and its one argument."""


class ChildLife:
    """A started process and the pipe to it. ready: the device in it runs. refused: it said why it cannot."""

    def __init__(self, launch: Callable[[Connection[Any, Any]], Launch]) -> None:
        """Start what `launch` makes of the child's end of the pipe. Raises OSError."""
        self._pipe, theirs = multiprocessing.Pipe()
        self.ready = self.refused = False
        try:
            target, start = launch(theirs)
            spawn = multiprocessing.get_context("spawn")
            self._process = spawn.Process(target=target, args=(start,), name="ndi", daemon=True)
            self._process.start()
        except BaseException:
            self._pipe.close()
            raise
        finally:
            theirs.close()
        self._ears: list[Any] = [self._process.sentinel, self._pipe]
        self._heard_at = time.monotonic()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid or 0

    @property
    def exitcode(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.exitcode

    @property
    def silent_seconds(self) -> float:
        """Since it was started or last heard."""
        return time.monotonic() - self._heard_at

    def listen(self, take: Callable[[str, Any], None], seconds: float) -> bool:
        """Pass on what it says, waiting so long for something; False when it is gone."""
        ready = connection.wait(self._ears, seconds)
        try:
            while self._pipe.poll():
                kind, value = self._pipe.recv()
                self._heard_at = time.monotonic()
                self.ready |= kind == "ready"
                self.refused |= kind == "refused"
                take(kind, value)
        except (EOFError, OSError):
            self._ears = [self._process.sentinel]
        return self._process.sentinel not in ready

    def say(self, kind: str, value: object) -> None:
        """Tell it, if it is there to hear."""
        try:
            self._pipe.send((kind, value))
        except OSError:
            return

    def end(self, take: Callable[[str, Any], None]) -> None:
        """Be sure it is gone, within two seconds: ask, then terminate, then kill."""
        self.say("stop", None)
        for seconds, insist in ((GOODBYE_SECONDS, self._process.terminate), (INSIST_SECONDS, self._process.kill)):
            self._process.join(seconds)
            if self._process.is_alive():
                insist()
        self._process.join(INSIST_SECONDS)
        self.listen(take, 0)
        self._pipe.close()


def death_in_words(what: str, exitcode: int | None) -> str:
    """Why a child that said nothing is gone."""
    if exitcode is None or exitcode >= 0:
        return f"the NDI {what} ended unexpectedly with exit status {exitcode}; it is started again"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    hint = ", a fault of the NDI library that a connection cut short can cause" if name == "SIGABRT" else ""
    return f"the NDI {what} was killed ({name}{hint}); it is started again"
