"""Keeps the child process of an NDI device going: started, listened to, started again with back-off when it dies.

The library ends its whole process on some network traffic that anyone can send it: here that is a restart. What the
child does is in `child`, what the devices look like from outside in `sender_process` and `receiver_process`.
The one POSIX-only call, pthread_sigmask, stands behind a check.
"""

from __future__ import annotations

import atexit
import shutil
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from bridge.engine_facts import BackOff
from bridge.ndi.child_life import ChildLife, Launch, death_in_words
from bridge.ndi.library import NdiNameTaken, NdiRefused, NdiUnavailable
from engine import segments
from engine.shared_frames import FrameRing

S = TypeVar("S")
Heard = TypeVar("Heard", contravariant=True)

LISTEN_SECONDS = 0.05
PATIENCE_SECONDS = 10.0
"""A child that says nothing for so long hangs; to load NDI it usually needs a quarter of a second."""
HEALTHY_SECONDS = 5.0
TOLD_SECONDS = 1.0
"""A death is told for at least so long, for whoever looks now and then."""
REFUSALS = {kind.__name__: kind for kind in (NdiUnavailable, NdiRefused, NdiNameTaken)}

USUAL_BYTES = 1920 * 1080 * 4
"""Room for a frame at first, where there is plenty; a larger frame restarts the child with more."""
SHARE = 32
"""At first a frame gets one part in so many of what is free: the engine's rings are made after this one."""
_MEMORY = Path("/dev/shm")
_can_be_had = threading.Event()


class Device(Protocol[Heard]):
    """What the keeper asks of the device it works for, on the keeper's thread."""

    def attach(self, ring: FrameRing) -> None:
        """Use this ring from now on."""
        ...

    def detach(self, ring: FrameRing) -> None:
        """Let go of it."""
        ...

    def launch(self, ring: FrameRing, pipe: Connection[Any, Any]) -> Launch:
        """What the next child does."""
        ...

    def wishes(self) -> object:
        """What a running child should be set to."""
        ...

    def heard(self, statistics: Heard) -> None:
        """The child's readouts."""
        ...


class ChildKeeper(Generic[S]):
    """One child at a time. May be started again after a stop."""

    def __init__(self, device: Device[S], *, what: str, certain_bytes: int, none: S, add: Callable[[S, S], S]) -> None:
        """what: `sender` or `receiver`. certain_bytes: a frame that will come. none: readouts before there are any.
        add: makes one of the readouts of earlier children and of the present one."""
        self._device, self._what, self._none, self._add = device, what, none, add
        self._certain_bytes = certain_bytes
        self._ring: FrameRing | None = None
        self._ring_bytes = self._wanted_bytes = 0
        self._impossible_bytes = 0
        self._knowing = threading.Lock()
        self._before = self._now = none
        self._told_until = 0.0
        self._refusal: Exception | None = None
        self._settled = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.error = ""
        self.restarts = self.pid = 0

    def statistics(self) -> S:
        """Readouts over all children, from any thread."""
        with self._knowing:
            return self._add(self._before, self._now)

    def enlarge(self, frame_bytes: int) -> bool:
        """Frames are larger than was thought: make room soon. Returns at once; False if there can be no room."""
        if 0 < self._impossible_bytes <= frame_bytes:
            return False
        self._wanted_bytes = max(self._wanted_bytes, frame_bytes)
        return True

    def start(self, *, must_answer: bool) -> None:
        """Return when the child is up. Raises NdiUnavailable, NdiNameTaken, NdiRefused. Nothing happens if it runs.

        must_answer: False returns at once if another child has shown that NDI can be had here; what goes wrong then is
        told as it is later on.
        """
        if self._thread is not None:
            return
        segments.remove_orphans()
        self._refusal, self.error = None, ""
        self._stop.clear()
        self._settled.clear()
        if not must_answer and _can_be_had.is_set():
            self._settled.set()
        self._thread = threading.Thread(target=self._run, name=f"ndi {self._what} watch", daemon=True)
        atexit.register(self.stop)
        self._thread.start()
        self._settled.wait()  # the watch never waits longer than its patience
        if self._refusal is not None:
            self.stop()
            raise self._refusal

    def stop(self) -> None:
        """End the child within two seconds and take the shared memory away."""
        thread, self._thread = self._thread, None
        self._stop.set()
        if thread is not None:
            thread.join()
            atexit.unregister(self.stop)

    def _run(self) -> None:
        if hasattr(signal, "pthread_sigmask"):
            # The child inherits this from the thread that starts it: Ctrl-C must not reach it before it can ignore it.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        back_off = BackOff(longest=2.0, healthy=HEALTHY_SECONDS)
        try:
            while not self._stop.is_set():
                healthy_seconds = self._live()
                if not self._settled.is_set():
                    return
                if healthy_seconds is not None and not self._stop.wait(back_off.after(healthy_seconds)):
                    self.restarts += 1
        except Exception as error:  # ours; without this the caller of `start` would wait, and later nobody would know
            self._fail(NdiRefused(f"the NDI {self._what} stopped on a fault of its own: {error}"))
        finally:
            self._use(None)
            self._settled.set()

    def _live(self) -> float | None:
        """One child from start to end: how many seconds it was well; None if it was we who ended it."""
        try:
            if self._ring is None:
                self._use(self._make_ring(first_room(self._certain_bytes)))
            child = ChildLife(self._launch)
        except (OSError, segments.NoSharedMemory) as error:
            self._fail(NdiRefused(f"the NDI {self._what} could not be started: {error}"))
            return 0.0
        self.pid = child.pid
        well_since, larger = self._attend(child)
        wanted_end, hangs = self._stop.is_set() or larger is not None, child.silent_seconds > PATIENCE_SECONDS
        child.end(self._take)
        self.pid = 0
        with self._knowing:
            self._before, self._now = self._add(self._before, self._now), self._none
        if larger is not None:
            self._use(larger)
        if not wanted_end and not child.refused:
            hung = f"the NDI {self._what} did not answer for {PATIENCE_SECONDS:g} s; it is started again"
            self._fail(NdiRefused(hung if hangs else death_in_words(self._what, child.exitcode)))
        return None if wanted_end else time.monotonic() - (well_since or time.monotonic())

    def _launch(self, pipe: Connection[Any, Any]) -> Launch:
        assert self._ring is not None
        return self._device.launch(self._ring, pipe)

    def _attend(self, child: ChildLife) -> tuple[float, FrameRing | None]:
        """Until it is gone, we stop, or a larger ring is there for the next: since when it was well, and that ring."""
        well_since, set_to = 0.0, self._device.wishes()
        while child.listen(self._take, LISTEN_SECONDS) and not self._stop.is_set():
            if child.ready:
                now = time.monotonic()
                well_since = well_since or now
                self.error = self.error if now < self._told_until else ""
                if (wishes := self._device.wishes()) != set_to:
                    set_to = wishes
                    child.say("set", wishes)
            if child.silent_seconds > PATIENCE_SECONDS:
                return well_since, None
            if self._wanted_bytes > self._ring_bytes and (larger := self._larger_ring()) is not None:
                return well_since, larger
        return well_since, None

    def _take(self, kind: str, value: Any) -> None:
        if kind in ("ready", "now"):
            with self._knowing:
                self._now = value
            self._device.heard(value)
        if kind == "ready":
            _can_be_had.set()
            self._settled.set()
        elif kind == "refused":
            self._fail(REFUSALS[value[0]](value[1]))
        elif kind == "larger":
            self.enlarge(value)

    def _fail(self, error: Exception) -> None:
        """Before the first child is up that is for the caller of `start` to know, later it is told and tried again."""
        if self._settled.is_set():
            self.error, self._told_until = str(error), time.monotonic() + TOLD_SECONDS
        elif self._refusal is None:
            self._refusal = error

    def _make_ring(self, frame_bytes: int) -> FrameRing:
        ring = FrameRing(frame_bytes, purpose=f"ndi{self._what}")
        self._ring_bytes = self._wanted_bytes = frame_bytes
        return ring

    def _larger_ring(self) -> FrameRing | None:
        """A ring for larger frames, not yet in use. If it cannot be had, that is told, and not tried again."""
        try:
            return self._make_ring(self._wanted_bytes)
        except (OSError, segments.NoSharedMemory) as error:
            self._impossible_bytes, self._wanted_bytes = self._wanted_bytes, self._ring_bytes
            self._fail(NdiRefused(f"frames are too large for the NDI {self._what}: {error}"))
            return None

    def _use(self, ring: FrameRing | None) -> None:
        if self._ring is not None:
            self._device.detach(self._ring)
            self._ring.remove()
        self._ring = ring
        if ring is not None:
            self._device.attach(ring)


def first_room(certain: int) -> int:
    """Bytes of the largest frame to make room for at first: `certain`, or more if there is plenty."""
    free = shutil.disk_usage(_MEMORY).free if _MEMORY.is_dir() else 1 << 40
    return max(certain, min(USUAL_BYTES, free // SHARE))
