"""Which frame is shown now: the newest finished one, the frozen one, the fallback or black. Knows no threads and no sinks."""

from __future__ import annotations

from bridge.fallback import InputTap, black, copied, fitted
from engine.control.live_values import Snapshot
from engine.frames import Frame
from engine.ports import Source


class FrameChoice:
    """Black if `blackout`; the frame that was on if `freeze`; the newest finished one; and when none came for
    `fallback_after` seconds, what `fallback` names. Before the first finished frame there is nothing to hold."""

    def __init__(self, *, finished: Source, tap: InputTap, size: tuple[int, int], now: float) -> None:
        """size: (width, height) until a finished frame tells it. now: monotonic seconds."""
        self._finished, self._tap, self._size = finished, tap, size
        self._engine: Frame | None = None
        self._engine_at = now
        self._engine_is_new = False
        self._fallback: Frame | None = None
        self._frozen: Frame | None = None
        self._blank: Frame | None = None
        self._picture: Frame | None = None

    def choose(self, targets: Snapshot, now: float) -> Frame | None:
        """The frame to show at `now`, the same object for as long as the picture stands; None before the first."""
        if targets.toggle("freeze") and self._picture is not None:
            self._frozen = self._frozen or copied(self._picture)  # before its pixels end with the next frame
        else:
            self._frozen = None
        self._take_finished(now)
        self._picture = self._frozen or self._stand_in(targets, now) or self._engine
        return self._black(now) if targets.toggle("blackout") else self._picture

    def is_first_showing(self, frame: Frame) -> bool:
        """Whether that is a finished frame never shown before; asked once, right before it is counted."""
        first = self._engine_is_new and frame is self._engine
        self._engine_is_new = self._engine_is_new and not first
        return first

    def is_repeat(self, frame: Frame) -> bool:
        """Whether that picture has been on before, though another may have been between."""
        return frame is self._frozen or (frame is self._engine and not self._engine_is_new)

    def _take_finished(self, now: float) -> None:
        # Asking `newest` ends the life of the pixels it gave before, so it is asked only when there is a new frame.
        newest = self._finished.newest() if self._finished.wait(0.0) else None
        if newest is not None:
            self._engine, self._engine_at, self._engine_is_new = newest, now, True
            self._fallback = None
            self._size = (newest.width, newest.height)

    def _stand_in(self, targets: Snapshot, now: float) -> Frame | None:
        """The fallback picture if it is its time, else None."""
        fallback = targets.text("fallback")
        if fallback == "hold" or now - self._engine_at < targets.number("fallback_after"):
            return None
        if fallback == "black":
            return self._black(now)
        newest = self._tap.take()
        if newest is not None:
            self._fallback = fitted(newest, self._size, targets.text("fit"))
        return self._fallback

    def _black(self, now: float) -> Frame:
        """Black at the output's size; the same frame for as long as the size stays."""
        if self._blank is None or (self._blank.width, self._blank.height) != self._size:
            self._blank = black(self._size, now, self._engine.index if self._engine else 0)
        return self._blank
