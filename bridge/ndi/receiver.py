"""Frames in over NDI: a device with its own thread that finds, connects, reconnects and hands frames on."""

from __future__ import annotations

import atexit
import enum
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from bridge.ndi import library
from bridge.ndi.finder import THIS_COMPUTER, NdiFinder
from bridge.ndi.handles import Arrived, ReceiveHandle
from bridge.ndi.pictures import PictureRefused
from bridge.ndi.sources import NdiSource, as_address
from engine.frames import PixelFormat, Pixels

Put = Callable[[PixelFormat, Pixels, float, int], None]
"""Takes (format, pixels, captured_at, index) and is done with `pixels`, or has it for good, on return."""

CAPTURE_SECONDS = 0.1
CONNECT_SECONDS = 3.0
"""For the connection and its first frame: one that brings none is made anew, it may be dead from its start."""
LOST_SECONDS = 0.5
FIRST_BACK_OFF_SECONDS = 0.05
MOST_BACK_OFF_SECONDS = 2.0


class ReceiverState(enum.Enum):
    """How it stands with the source."""

    WAITING = "waiting"
    """Not connected: it is looked for, or connected to."""
    CONNECTED = "connected"
    STALE = "stale"
    """Connected, but no frame for a while: the source hangs or pauses."""


@dataclass(frozen=True, slots=True)
class ReceiverStatistics:
    """Readouts of one receiver, all of one moment.

    received: frames that arrived and were handed on; dropped: frames passed over for newer ones, by us or in
    the library's queue; refused: pictures that could not be read; connects: connections made since start.
    """

    state: ReceiverState = ReceiverState.WAITING
    source_name: str = ""
    url: str = ""
    width: int = 0
    height: int = 0
    format: PixelFormat | None = None
    received: int = 0
    dropped: int = 0
    refused: int = 0
    connects: int = 0
    last_error: str = ""


class NdiReceiver:
    """Receives one source for ever, through losses, restarts and hangs of the sender, until `stop`."""

    def __init__(
        self,
        *,
        source: str,
        put: Put,
        receiver_name: str = "Phosphene",
        extra_ips: Sequence[str] = THIS_COMPUTER,
        ignore: Collection[str] = (),
        stale_seconds: float = 2.0,
        renew_seconds: float = 10.0,
    ) -> None:
        """source: a name, the part of it in parentheses, "any", or "host:port".

        put: called on the receiver's thread for every frame; index counts all frames that arrived, so a gap is a drop.
        ignore: names that "any" passes over (our own sender).
        stale_seconds: silence after which the state is STALE. renew_seconds: silence after which the
        connection is made anew. Raises ValueError for an address NDI cannot use.
        """
        self._wanted = source
        address = as_address(source)
        self._fixed = None if address is None else NdiSource(name="", url=address)
        self._put = put
        self._receiver_name = receiver_name
        self._extra_ips = tuple(extra_ips)
        self._ignore = frozenset(ignore)
        self._stale_seconds = stale_seconds
        self._renew_seconds = renew_seconds
        self._tally = (False, False)
        self._index = -1  # the index of the newest frame: the first is 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        # Replaced as a whole, by the receiver's thread only: a reader sees one moment, without a lock.
        self._statistics = ReceiverStatistics()

    def start(self) -> None:
        """Start receiving. Raises NdiUnavailable. A second start while running does nothing."""
        library.load()
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name=f"ndi receiver {self._wanted}", daemon=True)
            # A thread inside the library while Python ends would abort the process.
            atexit.register(self.stop)
            self._thread.start()

    def stop(self) -> None:
        """Stop and wait for the thread (well under 2 s). Harmless if not running."""
        thread, self._thread = self._thread, None
        self._stop.set()
        if thread is not None:
            thread.join()
            atexit.unregister(self.stop)

    def statistics(self) -> ReceiverStatistics:
        """The readouts as of now, from any thread."""
        return self._statistics

    def set_tally(self, *, program: bool, preview: bool) -> None:
        """What the source is told about itself, from the next frame on."""
        self._tally = (program, preview)

    def _run(self) -> None:
        back_off = 0.0
        while not self._stop.wait(back_off):
            received = self._statistics.received
            try:
                if self._fixed is not None:
                    self._receive(self._fixed)
                else:
                    self._find_and_receive()
            except Exception as error:  # the device outlives everything but its stop
                self._statistics = replace(self._statistics, last_error=f"NDI input: {error}")
            self._statistics = replace(self._statistics, state=ReceiverState.WAITING)
            fruitful = self._statistics.received > received
            back_off = FIRST_BACK_OFF_SECONDS if fruitful else min(back_off * 2 or 0.5, MOST_BACK_OFF_SECONDS)

    def _find_and_receive(self) -> None:
        """Look until the source is there, then receive it until it is lost; returns at once when stopped."""
        # The finder stays open while we receive: the connection need not wait for its end (see there).
        with NdiFinder(extra_ips=self._extra_ips) as finder:
            looked_since = time.monotonic()
            while not self._stop.is_set():
                found = finder.look(self._wanted, timeout_seconds=CAPTURE_SECONDS, ignore=self._ignore)
                if found is not None:
                    self._receive(found)
                    return
                if time.monotonic() - looked_since > CONNECT_SECONDS:
                    error = finder.describe_missing(self._wanted)
                    self._statistics = replace(self._statistics, last_error=error)

    def _receive(self, source: NdiSource) -> None:
        """Receive from `source` until it is lost, silent for too long, or we are stopped."""
        with ReceiveHandle(source=source, receiver_name=self._receiver_name) as handle:
            heard_at = linked_at = time.monotonic()
            patience, renew, tally = CONNECT_SECONDS, min(CONNECT_SECONDS, self._renew_seconds), (False, False)
            dropped_before = self._statistics.dropped
            passed_over = 0
            while not self._stop.is_set():
                if tally != self._tally:
                    tally = self._tally
                    handle.set_tally(program=tally[0], preview=tally[1])
                refused = self._statistics.refused
                arrived = self._capture(handle)
                now = time.monotonic()
                if arrived is not None:
                    passed_over += arrived.passed_over
                    dropped = dropped_before + passed_over + handle.dropped_frames()
                    self._hand_on(arrived, captured_at=now, dropped=dropped)
                if arrived is not None or self._statistics.refused > refused:
                    heard_at, renew = now, self._renew_seconds
                if arrived is not None or handle.connections() > 0:
                    linked_at = now
                    if patience == CONNECT_SECONDS:
                        patience = LOST_SECONDS
                        self._connected(source)
                if now - linked_at > patience or now - heard_at > renew:
                    where = source.name or source.url
                    error = f"the NDI source {where} is gone or does not answer: connecting again"
                    self._statistics = replace(self._statistics, last_error=error)
                    return
                if now - heard_at > self._stale_seconds and self._statistics.state is ReceiverState.CONNECTED:
                    self._statistics = replace(self._statistics, state=ReceiverState.STALE)

    def _capture(self, handle: ReceiveHandle) -> Arrived | None:
        try:
            return handle.newest(timeout_seconds=CAPTURE_SECONDS)
        except PictureRefused as error:  # the peer's mistake: refused and counted, the stream goes on
            refused = self._statistics.refused + 1
            self._statistics = replace(self._statistics, refused=refused, last_error=f"NDI input: {error}")
            return None

    def _connected(self, source: NdiSource) -> None:
        statistics = self._statistics
        self._statistics = replace(
            statistics,
            state=ReceiverState.CONNECTED,
            source_name=source.name,
            url=source.url,
            connects=statistics.connects + 1,
            last_error="",
        )

    def _hand_on(self, arrived: Arrived, *, captured_at: float, dropped: int) -> None:
        statistics = self._statistics
        # The index counts what was passed over too.
        self._index += 1 + max(0, dropped - statistics.dropped)
        height, width = arrived.pixels.shape[:2]
        error = statistics.last_error
        try:
            self._put(arrived.format, arrived.pixels, captured_at, self._index)
        except Exception as failed:  # ours, but the picture goes on
            error = f"an NDI frame could not be handed on: {failed}"
        self._statistics = replace(
            statistics,
            state=ReceiverState.CONNECTED,
            width=width,
            height=height,
            format=arrived.format,
            received=statistics.received + 1,
            dropped=dropped,
            last_error=error,
        )
