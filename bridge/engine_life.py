"""One engine process from its start to its end: launched, listened to, ended. Says nothing about the next one.

The one POSIX-only call, pthread_sigmask, stands behind a check.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Mapping
from multiprocessing import connection
from typing import Any, cast

from bridge.engine_facts import death_in_words
from engine.live_channel import BridgeEnd, Message
from engine.ports import Clock
from engine.settings import Settings
from engine.shared_frames import RingHandle
from engine.worker import EngineStart, run_worker

_LISTEN_SECONDS = 0.1
_END_SECONDS = 2.0


class EngineLife:
    """A started process, its channel, and what is known of how it does."""

    def __init__(self, settings: Settings, rings: tuple[RingHandle, RingHandle], *, build: str, clock: Clock) -> None:
        """Start it. Raises OSError and segments.NoSharedMemory. `mistake`: it ended by a mistake of the user, `proven`: it
        has finished frames."""
        if hasattr(signal, "pthread_sigmask"):
            # The engine inherits this from the thread that starts it: Ctrl-C must not reach it before it can ignore it.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self.channel = BridgeEnd()
        start = EngineStart(settings=settings, channel=self.channel.handle, input=rings[0], output=rings[1], build=build)
        spawn = multiprocessing.get_context("spawn")
        self._process = spawn.Process(target=run_worker, args=(start,), name="engine", daemon=True)
        try:
            self._process.start()
        except BaseException:
            self.channel.close()
            raise
        self.channel.started()
        self._clock = clock
        self._heard_at = 0.0
        self._running_since: float | None = None
        self._hung = self._told = ""
        self.mistake = False
        self.proven = False

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid or 0

    @property
    def healthy_seconds(self) -> float:
        """How long it has been running (or ran until it was last heard)."""
        return 0.0 if self._running_since is None else self._heard_at - self._running_since

    @property
    def last_words(self) -> str:
        """Why it is gone, in plain words."""
        return self._told or self._hung or death_in_words(self._process.exitcode)

    def attend(self, take: Callable[[Message], None], *, stop: Callable[[], bool], patience: Callable[[], float]) -> None:
        """Pass on its messages until it is gone, `stop()`, or silent for `patience()` seconds when it ran already."""
        ears: list[Any] = [self._process.sentinel, self.channel.inbox]
        while not stop():
            ready = connection.wait(ears, _LISTEN_SECONDS)
            if not self._listen(take):
                ears = [self._process.sentinel]
            if self._process.sentinel in ready:
                return
            limit = patience()
            if self._running_since is not None and self._clock.now() - self._heard_at > limit:
                self._hung = f"the engine did not answer for {limit:g} s; it is started again"
                self._process.kill()
                return

    def end(self, take: Callable[[Message], None]) -> None:
        """Be sure it is gone: ask, then terminate, then kill. Its channel stays for the owner to close."""
        self.channel.stop()
        for insist in (self._process.terminate, self._process.kill):
            self._process.join(_END_SECONDS)
            if self._process.is_alive():
                insist()
        self._process.join(_END_SECONDS)
        self._listen(take)

    def _listen(self, take: Callable[[Message], None]) -> bool:
        """False when nothing will come any more."""
        try:
            for message in self.channel.receive():
                self._heard_at = self._clock.now()
                if "report" in message:
                    self._running_since = self._heard_at if self._running_since is None else self._running_since
                    self.proven = cast("Mapping[str, int]", message["report"])["frames_out"] > 0
                if "failed" in message:
                    self._told, self.mistake = cast(str, message["failed"]), message["fault"] == "user"
                take(message)
        except EOFError:
            return False
        return True
