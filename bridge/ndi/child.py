"""What runs in the child process of an NDI device: the sender or the receiver as it is, a ring of frames, a pipe of news.

Messages to the parent: ("ready", statistics), ("refused", (name of the error, its text)), ("now", statistics),
("larger", bytes a frame takes). From the parent: ("set", rate or tally), ("stop", None). Who starts and restarts it
is in `keeper`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any

from bridge.ndi.library import NdiRefused, NdiUnavailable
from bridge.ndi.pictures import PictureRefused
from bridge.ndi.receiver import NdiReceiver
from bridge.ndi.sender import NdiSender
from engine import segments
from engine.frames import Frame, PixelFormat, Pixels
from engine.shared_frames import FrameTooLarge, RingHandle, RingReader, RingWriter

TELL_SECONDS = 0.05
"""How often the parent is told what has changed, and is listened to."""

BEAT_SECONDS = 0.5
"""How often it is told at least: a child that says nothing hangs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SenderStart:
    """All that a sender's child is started with. resume: receivers were connected to the one before it."""

    ring: RingHandle
    pipe: Connection[Any, Any]
    name: str
    version: str
    frame_rate: Fraction
    resume: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceiverStart:
    """All that a receiver's child is started with; the most of it are NdiReceiver's arguments."""

    ring: RingHandle
    pipe: Connection[Any, Any]
    source: str
    receiver_name: str
    extra_ips: tuple[str, ...]
    ignore: tuple[str, ...]
    stale_seconds: float
    renew_seconds: float
    tally: tuple[bool, bool]
    first_index: int


def run_sender(start: SenderStart) -> None:
    """The whole life of a sender's child; never returns."""
    _stand_alone(start.ring.name)
    sender = NdiSender(name=start.name, frame_rate=start.frame_rate, version=start.version)
    talk = _Talk(start.pipe, sender.statistics)
    if talk.begin(sender.start):
        _send_from(RingReader(start.ring), sender, talk, resume=start.resume)
        sender.stop()
    talk.end()


def _send_from(ring: RingReader, sender: NdiSender, talk: _Talk, *, resume: bool) -> None:
    """Show what is in the ring until told to stop. resume: and the last frame again at the first connection."""

    def apply(rate: Fraction) -> None:
        sender.frame_rate = rate

    last: Frame | None = None
    while talk.goes_on(apply):
        ring.wait(TELL_SECONDS)
        frame = ring.newest()
        last = frame or last
        if resume and sender.statistics().connections:
            resume, frame = False, last
        if frame is not None:
            with contextlib.suppress(PictureRefused):  # the parent has refused it already
                sender.show(frame)


def run_receiver(start: ReceiverStart) -> None:
    """The whole life of a receiver's child; never returns."""
    _stand_alone(start.ring.name)
    ring = RingWriter(start.ring)
    larger: list[int] = []

    def put(format: PixelFormat, pixels: Pixels, captured_at: float, index: int) -> None:
        try:
            ring.put(format, pixels, captured_at, start.first_index + index)
        except FrameTooLarge:
            larger[:] = [pixels.nbytes]
            raise

    receiver = NdiReceiver(
        source=start.source, put=put, receiver_name=start.receiver_name, extra_ips=start.extra_ips, ignore=start.ignore,
        stale_seconds=start.stale_seconds, renew_seconds=start.renew_seconds,
    )  # fmt: skip

    def apply(tally: tuple[bool, bool]) -> None:
        receiver.set_tally(program=tally[0], preview=tally[1])

    apply(start.tally)
    talk = _Talk(start.pipe, receiver.statistics)
    if talk.begin(receiver.start):
        while talk.goes_on(apply):
            talk.wait(TELL_SECONDS)
            if larger:
                talk.say("larger", larger.pop())
        receiver.stop()
    talk.end()


class _Talk:
    """The child's end of the pipe."""

    def __init__(self, pipe: Connection[Any, Any], statistics: Callable[[], object]) -> None:
        self._pipe, self._statistics = pipe, statistics
        self._told: object = None
        self._next_at = self._beat_at = 0.0

    def begin(self, start: Callable[[], None]) -> bool:
        """Start the device and tell how that went; False if it was refused."""
        try:
            start()
        except (NdiUnavailable, NdiRefused) as error:
            self.say("refused", (type(error).__name__, str(error)))
            return False
        self._told = self._statistics()
        self.say("ready", self._told)
        return True

    def goes_on(self, apply: Callable[[Any], None]) -> bool:
        """False when the parent says stop. Every TELL_SECONDS it tells and listens; between, it costs nothing."""
        now = time.monotonic()
        if now < self._next_at:
            return True
        self._next_at = now + TELL_SECONDS
        statistics = self._statistics()
        if statistics != self._told or now >= self._beat_at:
            self._told, self._beat_at = statistics, now + BEAT_SECONDS
            self.say("now", statistics)
        try:
            while self._pipe.poll():
                kind, value = self._pipe.recv()
                if kind == "stop":
                    return False
                apply(value)
        except (EOFError, OSError):  # the parent is gone
            return False
        return True

    def wait(self, seconds: float) -> None:
        """Until the parent says something, or for so long."""
        with contextlib.suppress(EOFError, OSError):
            self._pipe.poll(seconds)

    def say(self, kind: str, value: object) -> None:
        """Tell the parent."""
        with contextlib.suppress(OSError):  # it is gone: the parent watch ends this process
            self._pipe.send((kind, value))

    def end(self) -> None:
        """Leave: whatever the library still wants to tidy up must not keep the process from ending."""
        self.say("now", self._statistics())
        self._pipe.close()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _stand_alone(segment: str) -> None:
    """Leave Ctrl-C to the parent; when the parent is gone, take the shared memory away for it and exit at once."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        segments.remove_named((segment,))
        os._exit(1)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()
