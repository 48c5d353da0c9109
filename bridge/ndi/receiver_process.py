"""An NDI receiver in a child process of its own, with the face of NdiReceiver. What the child does is in `child`.

No network traffic can end this process: the library never gets into it. One more copy of each frame is the price.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from bridge.ndi.child import ReceiverStart, run_receiver
from bridge.ndi.child_life import Launch
from bridge.ndi.finder import THIS_COMPUTER
from bridge.ndi.keeper import ChildKeeper
from bridge.ndi.receiver import Put, ReceiverStatistics
from bridge.ndi.sources import as_address
from engine.shared_frames import FrameRing, RingReader


class NdiReceiverProcess:
    """Receives one source for ever in a process of its own, through the sender's losses and its own, until `stop`."""

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
        """As NdiReceiver, but the pixels that `put` is given are valid only until it returns. Raises ValueError."""
        as_address(source)
        self._source, self._put, self._receiver_name = source, put, receiver_name
        self._extra_ips, self._ignore = tuple(extra_ips), tuple(ignore)
        self._stale_seconds, self._renew_seconds = stale_seconds, renew_seconds
        self._tally = (False, False)
        self._next_index = 0
        self._put_error = ""
        self._counting = threading.Lock()
        self._ring: FrameRing | None = None
        self._dropped = 0
        self._detached = threading.Event()
        self._feed: threading.Thread | None = None
        self._keeper = ChildKeeper(self, what="receiver", certain_bytes=0, none=ReceiverStatistics(), add=_add_received)

    def start(self) -> None:
        """Start receiving. Raises NdiUnavailable, NdiRefused. A second start while running does nothing."""
        self._keeper.start(must_answer=False)

    def stop(self) -> None:
        """Stop and end the process (under 2 s). Harmless if not running."""
        self._keeper.stop()

    @property
    def restarts(self) -> int:
        """How often the process was started again after a death."""
        return self._keeper.restarts

    @property
    def pid(self) -> int:
        """The process that receives now; 0 if none does."""
        return self._keeper.pid

    def statistics(self) -> ReceiverStatistics:
        """The readouts as of now, over all restarts, from any thread."""
        now = self._keeper.statistics()
        with self._counting:
            dropped = self._dropped + (self._ring.counts().dropped if self._ring is not None else 0)
        return replace(now, dropped=now.dropped + dropped, last_error=self._keeper.error or now.last_error or self._put_error)

    def set_tally(self, *, program: bool, preview: bool) -> None:
        """What the source is told about itself, from the next frame on."""
        self._tally = (program, preview)

    def attach(self, ring: FrameRing) -> None:
        """For the keeper: hand on what comes in this ring."""
        with self._counting:
            self._ring = ring
        self._detached.clear()
        reader = RingReader(ring.reader_handle)
        self._feed = threading.Thread(target=self._hand_on, args=(reader,), name="ndi receiver frames", daemon=True)
        self._feed.start()

    def detach(self, ring: FrameRing) -> None:
        """For the keeper: hand on no more."""
        self._detached.set()
        if self._feed is not None:
            self._feed.join()
        with self._counting:
            self._dropped += ring.counts().dropped
            self._ring = None

    def launch(self, ring: FrameRing, pipe: Connection[Any, Any]) -> Launch:
        """For the keeper: a receiver, which counts on where the one before it was cut off."""
        return run_receiver, ReceiverStart(
            ring=ring.writer_handle, pipe=pipe, source=self._source, receiver_name=self._receiver_name,
            extra_ips=self._extra_ips, ignore=self._ignore, stale_seconds=self._stale_seconds,
            renew_seconds=self._renew_seconds, tally=self._tally, first_index=self._next_index,
        )  # fmt: skip

    def wishes(self) -> tuple[bool, bool]:
        """For the keeper: the tally."""
        return self._tally

    def heard(self, statistics: ReceiverStatistics) -> None:
        """For the keeper: nothing to do."""

    def _hand_on(self, reader: RingReader) -> None:
        """Thread: from the ring to `put`."""
        while not self._detached.is_set():
            if not reader.wait(0.05) or (frame := reader.newest()) is None:
                continue
            self._next_index = frame.index + 1
            try:
                self._put(frame.format, frame.pixels, frame.captured_at, frame.index)
                self._put_error = ""
            except Exception as failed:  # ours, but the picture goes on
                self._put_error = f"an NDI frame could not be handed on: {failed}"
        reader.close()


def _add_received(before: ReceiverStatistics, now: ReceiverStatistics) -> ReceiverStatistics:
    known = now if now.width else before
    return replace(
        now,
        source_name=now.source_name or before.source_name,
        url=now.url or before.url,
        width=known.width,
        height=known.height,
        format=known.format,
        received=before.received + now.received,
        dropped=before.dropped + now.dropped,
        refused=before.refused + now.refused,
        connects=before.connects + now.connects,
    )
