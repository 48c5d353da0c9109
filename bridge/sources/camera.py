"""A camera of this computer as a source, through OpenCV; pulled out, it is waited for and opened again."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import cv2
import numpy as np

from bridge.sources.own_thread import OwnThread, Put, SourceError
from engine.frames import PixelFormat, Pixels

TRIED_INDICES = range(8)
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 5.0


class Capture(Protocol):
    """What is used of cv2.VideoCapture."""

    def isOpened(self) -> bool: ...  # noqa: N802
    def grab(self) -> bool: ...
    def retrieve(self) -> tuple[bool, Any]: ...
    def release(self) -> None: ...


class CameraSource:
    """Gives every frame of camera `index` (0 is the first). `open_capture` opens it: anything like cv2.VideoCapture."""

    def __init__(
        self,
        put: Put,
        index: int = 0,
        *,
        open_capture: Callable[[int], Capture] = cv2.VideoCapture,
        first_wait_seconds: float = FIRST_WAIT_SECONDS,
    ) -> None:
        self._put = put
        self._camera = index
        self._open_capture = open_capture
        self._first_wait = first_wait_seconds
        self._thread = OwnThread(f"camera {index}", self._run)
        self._opened: Capture | None = None
        self._size = (0, 0)
        self._waiting = False
        self.ended = False

    @property
    def state(self) -> str:
        """playing, waiting (for a camera that was pulled out), stopped or failed."""
        if self._thread.error:
            return "failed"
        return "stopped" if not self._thread.running else "waiting" if self._waiting else "playing"

    @property
    def error(self) -> str:
        """One sentence if it failed, else empty."""
        return self._thread.error

    def start(self) -> None:
        """Open the camera and start to read it; SourceError names the indices that can be opened if this one cannot."""
        if self._thread.running:
            return
        with _quiet():
            self._opened = self._open()
            if self._opened is None:
                raise SourceError(self._missing())
        self._thread.start()

    def stop(self) -> None:
        """Stop within two seconds and let the camera go."""
        self._thread.stop()

    def describe(self) -> str:
        """One line."""
        size = f" {self._size[0]}x{self._size[1]}" if self._size[0] else ""
        return f"camera {self._camera}{size}"

    def _run(self, stopping: threading.Event) -> None:
        capture, index, wait = self._opened, 0, self._first_wait
        self._opened = None
        try:
            while not stopping.is_set():
                pixels = self._read(capture) if capture is not None else None
                if pixels is not None:
                    self._waiting, wait = False, self._first_wait
                    self._put(PixelFormat.BGRX, pixels, self._grabbed_at, index)
                    index += 1
                    continue
                self._waiting = True
                if capture is not None:
                    capture.release()
                    capture = None
                if stopping.wait(wait):
                    return
                wait = min(2.0 * wait, LONGEST_WAIT_SECONDS)
                with _quiet():
                    capture = self._open()
        finally:
            if capture is not None:
                capture.release()

    def _read(self, capture: Capture) -> Pixels | None:
        """The next frame as BGRX, its moment kept in `_grabbed_at`; None if the camera gives nothing any more."""
        if not capture.grab():
            return None
        self._grabbed_at = time.monotonic()
        good, picture = capture.retrieve()
        if not good or picture is None:
            return None
        turned = cv2.COLOR_GRAY2BGRA if picture.ndim == 2 else cv2.COLOR_BGR2BGRA
        pixels = np.asarray(cv2.cvtColor(picture, turned), dtype=np.uint8)
        self._size = (int(pixels.shape[1]), int(pixels.shape[0]))
        return pixels

    def _open(self) -> Capture | None:
        capture = self._open_capture(self._camera)
        if capture.isOpened():
            return capture
        capture.release()
        return None

    def _missing(self) -> str:
        found = []
        for index in TRIED_INDICES:
            capture = self._open_capture(index)
            if capture.isOpened():
                found.append(f"camera:{index}")
            capture.release()
        hint = f"these can: {', '.join(found)}" if found else "no other camera can either; is one plugged in and free?"
        return f"camera {self._camera} cannot be opened; {hint}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps OpenCV's own complaints about a missing camera off the screen: ours says it in one sentence."""
    logging = cv2.utils.logging
    before = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(before)
