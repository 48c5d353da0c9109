"""A clip, a still picture or a folder of pictures as a live source, at the pace of its own time stamps."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from bridge.sources.decode import Picture, facts_of, pictures_of
from bridge.sources.own_thread import OwnThread, Put

MOST_LATE_SECONDS = 0.25
"""Up to this lateness frames are caught up; beyond it the clip plays slower, so that it never stands still."""


class ClipSource:
    """Plays from its own thread. Raises SourceError at once if the path holds nothing that can be decoded."""

    def __init__(self, put: Put, path: Path | str, *, loop: bool = True, fps: Fraction | None = None) -> None:
        """loop: start again after the last frame. fps: rate of stills and folders (None: 30)."""
        self._put = put
        self._path = Path(path)
        self._loop = loop
        self._fps = fps
        self.facts = facts_of(self._path, fps=fps)
        self._thread = OwnThread(f"clip {self._path.name}", self._run)
        self.ended = False

    @property
    def state(self) -> str:
        """playing, ended, stopped or failed."""
        if self._thread.error:
            return "failed"
        return "ended" if self.ended else "playing" if self._thread.running else "stopped"

    @property
    def error(self) -> str:
        """One sentence if it failed, else empty."""
        return self._thread.error

    def start(self) -> None:
        """Play from the beginning."""
        self.ended = False
        self._thread.start()

    def stop(self) -> None:
        """Stop within two seconds."""
        self._thread.stop()

    def describe(self) -> str:
        """One line."""
        width, height = self.facts.size
        kind = "picture" if self.facts.still else "clip"
        return f"{kind} {self._path.name} {width}x{height} at {float(self.facts.fps):g} fps"

    def _run(self, stopping: threading.Event) -> None:
        index, began, step = 0, time.monotonic(), float(1 / self.facts.fps)
        for pictures in self._rounds():
            last_at = 0.0
            for picture in pictures:
                now = time.monotonic()
                if now - (began + picture.at_seconds) > MOST_LATE_SECONDS:
                    began = now - picture.at_seconds
                if stopping.wait(max(0.0, began + picture.at_seconds - now)):
                    return
                self._put(picture.format, picture.pixels, time.monotonic(), index)
                index += 1
                last_at = picture.at_seconds
            began += last_at + step
        # The last frame stands as long as any other before the source says that it has ended.
        self.ended = not stopping.wait(max(0.0, began - time.monotonic()))

    def _rounds(self) -> Iterator[Iterator[Picture]]:
        """The pictures from first to last, once or again and again; a still is decoded only once."""
        once = list(pictures_of(self._path)) if self.facts.still else None
        for _ in itertools.count() if self._loop else range(1):
            yield iter(once) if once else pictures_of(self._path, fps=self._fps)
