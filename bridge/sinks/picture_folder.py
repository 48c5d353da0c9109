"""Writes each frame as a numbered PNG into a folder, alpha kept."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import cv2

from bridge.sinks.colour import to_bgra
from bridge.sinks.frame_writer import FrameWriter, SinkError
from engine.frames import Frame, PixelFormat

NUMBERED = re.compile(r"\d{6,}\.png")
FAST = (int(cv2.IMWRITE_PNG_COMPRESSION), 1)


class PictureFolder(FrameWriter):
    """A sink that writes 000000.png, 000001.png, ... without gaps: a frame that was dropped takes no number."""

    def __init__(self, folder: Path | str, *, every_frame: bool = False) -> None:
        """The folder is made if need be. SinkError if it cannot be, or holds numbered pictures already."""
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as failure:
            raise SinkError(f"the folder {folder} cannot be made: {failure.strerror}") from None
        if any(NUMBERED.fullmatch(path.name) for path in folder.iterdir()):
            raise SinkError(f"the folder {folder} holds numbered pictures already: empty it or name another")
        super().__init__(_Pictures(folder), name=f"pictures in {folder.name}", every_frame=every_frame)


class _Pictures:
    """The files; each gets its name when it is whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0

    def write(self, frame: Frame, tick: int) -> None:
        del tick
        pixels = to_bgra(frame)
        if frame.format is not PixelFormat.BGRA:
            pixels = pixels[..., :3]
        # Encoded in memory and written by Python: OpenCV's own writing fails on names beyond ASCII on Windows.
        good, encoded = cv2.imencode(".png", pixels, FAST)
        if not good:
            raise SinkError(f"picture {self._number} could not be encoded as PNG")
        part = self._part()
        part.write_bytes(encoded.tobytes())
        os.replace(part, self._folder / f"{self._number:06d}.png")
        self._number += 1

    def finish(self) -> None:
        return

    def abandon(self) -> None:
        with contextlib.suppress(OSError):
            self._part().unlink(missing_ok=True)

    def _part(self) -> Path:
        return self._folder / f"{self._number:06d}.png.part"
