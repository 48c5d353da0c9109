"""An NDI sender in a child process of its own, with the face of NdiSender. What the child does is in `child`.

No network traffic can end this process: the library never gets into it. One more copy of each frame is the price.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from fractions import Fraction
from multiprocessing.connection import Connection
from typing import Any

from bridge.ndi.child import SenderStart, run_sender
from bridge.ndi.child_life import Launch
from bridge.ndi.keeper import ChildKeeper
from bridge.ndi.pictures import check_picture
from bridge.ndi.sender import SenderStatistics
from bridge.ndi.timecode import exact_rate
from engine.frames import Frame
from engine.shared_frames import FrameRing, FrameTooLarge, RingWriter


class NdiSenderProcess:
    """One named NDI output in a process of its own. `show` copies the frame and returns, child or no child."""

    def __init__(
        self, *, name: str, frame_rate: float | Fraction = 30, version: str = "", size: tuple[int, int] | None = None
    ) -> None:
        """As NdiSender. size: (width, height) of the frames to come if known."""
        self._name, self._version = name, version
        self._rate = exact_rate(frame_rate)
        self._writing = threading.Lock()
        self._writer: RingWriter | None = None
        self._ring: FrameRing | None = None
        self._skipped = self._dropped = 0
        self._receiving = self._resume = False
        self._keeper = ChildKeeper(
            self, what="sender", certain_bytes=size[0] * size[1] * 4 if size else 0, none=SenderStatistics(), add=_add_sent
        )

    def start(self) -> None:
        """Announce the sender and start. Raises NdiUnavailable, NdiNameTaken, NdiRefused."""
        self._keeper.start(must_answer=True)

    def stop(self) -> None:
        """End the sender and its process (under 2 s)."""
        self._keeper.stop()

    @property
    def frame_rate(self) -> Fraction:
        """Frames a second that receivers are told."""
        return self._rate

    @frame_rate.setter
    def frame_rate(self, rate: float | Fraction) -> None:
        self._rate = exact_rate(rate)

    @property
    def restarts(self) -> int:
        """How often the process was started again after a death."""
        return self._keeper.restarts

    @property
    def pid(self) -> int:
        """The process that sends now; 0 if none does."""
        return self._keeper.pid

    def statistics(self) -> SenderStatistics:
        """The readouts as of now, over all restarts, from any thread."""
        now = self._keeper.statistics()
        with self._writing:
            replaced = self._ring.counts().dropped if self._ring is not None else 0
            return replace(
                now,
                skipped=now.skipped + self._skipped,
                dropped=now.dropped + self._dropped + replaced,
                last_error=self._keeper.error or now.last_error,
            )

    def show(self, frame: Frame) -> None:
        """Take a frame; copied only if somebody receives. Raises PictureRefused for what NDI cannot
        carry, FrameTooLarge if there is no shared memory for it."""
        check_picture(frame.pixels, frame.format)
        with self._writing:
            if self._writer is None or not (self._receiving or self._resume):
                self._skipped += 1
                return
            try:
                self._writer.put(frame.format, frame.pixels, frame.captured_at, frame.index)
            except FrameTooLarge:
                self._dropped += 1
                if not self._keeper.enlarge(frame.pixels.nbytes):
                    raise

    def attach(self, ring: FrameRing) -> None:
        """For the keeper: write into this ring."""
        with self._writing:
            self._ring, self._writer = ring, RingWriter(ring.writer_handle)

    def detach(self, ring: FrameRing) -> None:
        """For the keeper: write into it no more."""
        with self._writing:
            self._dropped += ring.counts().dropped
            if self._writer is not None:
                self._writer.close()
            self._ring = self._writer = None

    def launch(self, ring: FrameRing, pipe: Connection[Any, Any]) -> Launch:
        """For the keeper: a sender, which goes on where the one before it was cut off."""
        self._resume, self._receiving = self._resume or self._receiving, False
        return run_sender, SenderStart(
            ring=ring.reader_handle, pipe=pipe, name=self._name, version=self._version, frame_rate=self._rate, resume=self._resume
        )

    def wishes(self) -> Fraction:
        """For the keeper: the rate."""
        return self._rate

    def heard(self, statistics: SenderStatistics) -> None:
        """For the keeper: whether frames are wanted."""
        self._receiving = statistics.connections > 0
        self._resume = self._resume and not self._receiving


def _add_sent(before: SenderStatistics, now: SenderStatistics) -> SenderStatistics:
    return replace(
        now,
        source_name=now.source_name or before.source_name,
        width=now.width or before.width,
        height=now.height or before.height,
        sent=before.sent + now.sent,
        skipped=before.skipped + now.skipped,
        dropped=before.dropped + now.dropped,
    )
