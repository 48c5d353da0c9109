"""The newest frame on its way to browsers: copied only while somebody watches, encoded once for all of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from engine.frames import Frame

PICTURES_PER_SECOND = 25.0
log = logging.getLogger("phosphene.web")
Encode = Callable[[Frame], bytes]


class Preview:
    """Frames in from any thread (`show`), JPEG pictures out to coroutines of one event loop.

    encode: frame -> JPEG, run on a thread of the loop's pool, one at a time; what it misses meanwhile is dropped.
    """

    def __init__(self, encode: Encode, *, now: Callable[[], float] = time.monotonic) -> None:
        self._encode = encode
        self._now = now
        self._lock = threading.Lock()
        self._frame: Frame | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arrived = asyncio.Event()
        self._encoded = asyncio.Condition()
        self._taken_at = 0.0
        self._picture = b""
        self._number = 0
        self._encoder: asyncio.Task[None] | None = None
        self.ended = asyncio.Event()
        self.watchers = 0
        self.copied = 0
        self.encoded = 0

    def show(self, frame: Frame) -> None:
        """Offer a frame: copied if somebody watches and 1/25 s has passed since the last copy. Never blocks."""
        loop, moment = self._loop, self._now()
        if self.watchers == 0 or loop is None or moment < self._taken_at + 1.0 / PICTURES_PER_SECOND:
            return
        self._taken_at = moment
        copy = Frame(pixels=frame.pixels.copy(), format=frame.format, captured_at=frame.captured_at, index=frame.index)
        self.copied += 1
        with self._lock:
            self._frame = copy
        try:
            loop.call_soon_threadsafe(self._arrived.set)
        except RuntimeError:  # the loop was closed this moment: the server is being stopped
            self._loop = None

    def end(self) -> None:
        """Ask everybody who watches to leave; from any thread."""
        loop, self._loop = self._loop, None
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended before
                loop.call_soon_threadsafe(self.ended.set)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Be counted as somebody who watches; the encoder runs as long as there is one."""
        self._loop = asyncio.get_running_loop()
        self.watchers += 1
        if self._encoder is None:
            self._picture = b""  # what was seen by earlier watchers is old
            self._encoder = asyncio.create_task(self._encode_newest())
        try:
            yield
        finally:
            self.watchers -= 1
            if self.watchers == 0:
                self._encoder.cancel()
                self._encoder = None

    async def next_picture(self, after: int) -> tuple[int, bytes]:
        """The newest JPEG with a number above `after`, and its number; waits for it."""
        async with self._encoded:
            await self._encoded.wait_for(lambda: self._number > after and bool(self._picture))
            return self._number, self._picture

    async def _encode_newest(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            with self._lock:
                frame, self._frame = self._frame, None
            if frame is None:
                continue
            try:
                picture = await asyncio.to_thread(self._encode, frame)
            except Exception:  # a mistake of ours about one frame; the preview goes on with the next
                log.exception("a frame could not be encoded for the preview")
                continue
            async with self._encoded:
                self._picture, self._number = picture, self._number + 1
                self.encoded += 1
                self._encoded.notify_all()
