"""Frames out over NDI: a sink with its own thread that sends the newest frame while anyone receives."""

from __future__ import annotations

import atexit
import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from bridge.ndi.handles import SendHandle
from bridge.ndi.metadata import product_xml
from bridge.ndi.pictures import check_picture, copy_to_even, even_shape
from bridge.ndi.timecode import TimecodeScale, exact_rate
from engine.frames import Frame, Pixels
from engine.latest import Latest

POLL_SECONDS = 0.05
"""How often connections and tally are read while no frame comes."""


@dataclass(frozen=True, slots=True)
class SenderStatistics:
    """Readouts of one sender, all of one moment.

    sent: frames encoded and sent; skipped: frames not taken because nobody received; dropped: frames replaced by
    newer ones before they were sent. latency_seconds: captured_at to sent, of the newest frame sent.
    """

    source_name: str = ""
    connections: int = 0
    on_program: bool = False
    on_preview: bool = False
    width: int = 0
    height: int = 0
    sent: int = 0
    skipped: int = 0
    dropped: int = 0
    latency_seconds: float = 0.0
    last_error: str = ""


class NdiSender:
    """One named NDI output. `show` copies the frame and returns; encoding and sending happen on its thread."""

    def __init__(self, *, name: str, frame_rate: float | Fraction = 30, version: str = "") -> None:
        """name: what receivers see in parentheses. frame_rate: frames a second that will be shown."""
        self._name = name
        self._version = version
        self._rate = exact_rate(frame_rate)
        self._waiting: Latest[Frame] = Latest()
        self._spare: deque[Pixels] = deque(maxlen=2)
        self._show_lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._skipped = 0
        self._dropped = 0
        # Replaced as a whole, by the sender's thread only.
        self._statistics = SenderStatistics()

    def start(self) -> None:
        """Announce the sender and start. Raises NdiUnavailable, NdiNameTaken, NdiRefused."""
        if self._thread is not None:
            return
        handle = SendHandle(name=self._name)
        handle.add_connection_metadata(product_xml(name="Phosphene", version=self._version))
        scale = TimecodeScale.from_clocks(monotonic_seconds=time.monotonic(), unix_seconds=time.time())
        self._statistics = replace(self._statistics, source_name=handle.full_name)
        self._stop.clear()
        self._thread = threading.Thread(
            target=self._run, args=(handle, scale), name=f"ndi sender {self._name}", daemon=True
        )
        # A thread inside the library while Python ends would abort the process.
        atexit.register(self.stop)
        self._thread.start()

    def stop(self) -> None:
        """Finish the frame under way, end the sender and wait for its thread (well under 2 s)."""
        thread, self._thread = self._thread, None
        self._stop.set()
        if thread is not None:
            thread.join()
            atexit.unregister(self.stop)

    @property
    def frame_rate(self) -> Fraction:
        """Frames a second that receivers are told."""
        return self._rate

    @frame_rate.setter
    def frame_rate(self, rate: float | Fraction) -> None:
        self._rate = exact_rate(rate)

    def statistics(self) -> SenderStatistics:
        """The readouts as of now, from any thread."""
        return replace(self._statistics, skipped=self._skipped, dropped=self._dropped)

    def show(self, frame: Frame) -> None:
        """Take a frame; copied only if somebody receives. Raises PictureRefused for what NDI cannot carry."""
        check_picture(frame.pixels, frame.format)
        with self._show_lock:
            if self._stop.is_set() or self._thread is None or not self._statistics.connections:
                self._skipped += 1
                return
            replaced = self._waiting.take()
            if replaced is not None:
                self._dropped += 1
                self._spare.append(replaced.pixels)
            pixels = self._buffer(even_shape(frame.pixels))
            copy_to_even(frame.pixels, pixels)
            self._waiting.put(replace(frame, pixels=pixels))

    def _buffer(self, shape: tuple[int, int, int]) -> Pixels:
        """A buffer of ours that is neither waiting nor being sent."""
        while self._spare:
            pixels = self._spare.popleft()
            if pixels.shape == shape:
                return pixels
        return np.empty(shape, dtype=np.uint8)

    def _run(self, handle: SendHandle, scale: TimecodeScale) -> None:
        with handle:
            while not self._stop.is_set():
                try:
                    self._read_back(handle)
                    self._waiting.wait(POLL_SECONDS)
                    frame = self._waiting.take()
                    if frame is not None:
                        self._send(handle, scale, frame)
                except Exception as error:  # the output outlives everything but its stop
                    self._statistics = replace(self._statistics, last_error=f"NDI output: {error}")
                    self._stop.wait(POLL_SECONDS)
        self._statistics = replace(self._statistics, connections=0, on_program=False, on_preview=False)

    def _read_back(self, handle: SendHandle) -> None:
        connections, (on_program, on_preview) = handle.connections(), handle.tally()
        self._statistics = replace(
            self._statistics, connections=connections, on_program=on_program, on_preview=on_preview
        )

    def _send(self, handle: SendHandle, scale: TimecodeScale, frame: Frame) -> None:
        """Send one frame and give its buffer back. A sync send is done with the buffer when it returns."""
        handle.send(
            pixels=frame.pixels,
            pixel_format=frame.format,
            timecode=scale.timecode(frame.captured_at),
            rate=self._rate,
        )
        self._spare.append(frame.pixels)
        self._statistics = replace(
            self._statistics,
            width=frame.width,
            height=frame.height,
            sent=self._statistics.sent + 1,
            latency_seconds=time.monotonic() - frame.captured_at,
            last_error="",
        )
