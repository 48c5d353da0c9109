"""The bridge's ends of the two frame rings: frames in, finished frames out, counts. Outlives every engine process."""

from __future__ import annotations

import threading

from engine.frames import Frame, PixelFormat, Pixels
from engine.shared_frames import FrameRing, RingCounts, RingHandle, RingReader, RingWriter


class EngineRings:
    """Both rings; asked before they are open and after they are closed, they have no frames."""

    def __init__(self, frame_bytes: int) -> None:
        """`frame_bytes`: the largest frame, in or out."""
        self._frame_bytes = frame_bytes
        self._writing = threading.Lock()
        self._rings: tuple[FrameRing, FrameRing] | None = None
        self._writer: RingWriter | None = None
        self._counts = (RingCounts(put=0, taken=0, dropped=0),) * 2
        self.finished = FinishedFrames()

    def open(self) -> None:
        """Make the rings. Raises segments.NoSharedMemory."""
        into = FrameRing(self._frame_bytes, purpose="in")
        try:
            out = FrameRing(self._frame_bytes, purpose="out")
        except Exception:
            into.remove()
            raise
        self.finished.open(RingReader(out.reader_handle))
        with self._writing:
            self._rings, self._writer = (into, out), RingWriter(into.writer_handle)

    def close(self) -> None:
        """Take the shared memory away; the counts stay."""
        self.finished.close()
        with self._writing:
            self._counts = self._counted()
            if self._writer is not None:
                self._writer.close()
            rings, self._rings, self._writer = self._rings, None, None
        for ring in rings or ():
            ring.remove()

    def put(self, format: PixelFormat, pixels: Pixels, captured_at: float, index: int) -> None:
        """One copy into the ring, from any thread. Raises FrameTooLarge."""
        with self._writing:
            if self._writer is not None:
                self._writer.put(format, pixels, captured_at, index)

    def counts(self) -> tuple[RingCounts, RingCounts]:
        """Of the frames in, and of the finished frames."""
        with self._writing:
            return self._counted()

    def handles(self) -> tuple[RingHandle, RingHandle]:
        """The engine's ends: to read the frames in, to write the finished ones."""
        if self._rings is None:
            raise RuntimeError("the rings are opened before an engine gets their ends")
        return self._rings[0].reader_handle, self._rings[1].writer_handle

    def _counted(self) -> tuple[RingCounts, RingCounts]:
        return self._counts if self._rings is None else (self._rings[0].counts(), self._rings[1].counts())


class FinishedFrames:
    """The out ring as an engine.ports.Source that has nothing before the start and after the end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ring: RingReader | None = None
        self._closed = threading.Event()

    def open(self, ring: RingReader) -> None:
        """Give frames from this ring."""
        with self._lock:
            self._ring = ring
            self._closed.clear()

    def close(self) -> None:
        """Give no more frames; one that was handed out stays valid."""
        with self._lock:
            ring, self._ring = self._ring, None
            self._closed.set()
            if ring is not None:
                ring.close()

    def newest(self) -> Frame | None:
        """The newest finished frame not handed out before, or None. Valid until the next one is handed out."""
        with self._lock:
            return self._ring.newest() if self._ring is not None else None

    def wait(self, timeout_seconds: float) -> bool:
        """Wait until there is one; False if none came in time."""
        ring = self._ring
        try:
            if ring is not None:
                return ring.wait(timeout_seconds)
        except (ValueError, OSError):
            pass  # the engine was stopped meanwhile
        self._closed.wait(timeout_seconds)
        return False
