"""Where a rendering is written until it is whole: a clip or a folder beside its final name, which it gets at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
from fractions import Fraction
from types import TracebackType

from bridge.devices import DEVICE_ERRORS
from bridge.mistake import Mistake
from bridge.sinks.picture_folder import PictureFolder
from bridge.sinks.recorder import Recorder
from bridge.sources.parse import parse_sink


class RenderedFile:
    """A sink that takes every frame and waits rather than drop. Left by an error, it leaves nothing behind."""

    def __init__(self, text: str, *, fps: Fraction) -> None:
        """text: a clip or frames:FOLDER. Raises Mistake for anything else and for a folder that is not empty."""
        try:
            spec = parse_sink(text)
        except DEVICE_ERRORS as error:
            raise Mistake(str(error)) from error
        if spec.path is None or spec.kind not in ("clip", "frames"):
            raise Mistake(f"a rendering goes to a clip ending in .mp4, .mov or .mkv or to frames:FOLDER, not to {text!r}")
        self._is_folder = spec.kind == "frames"
        self._final = spec.path.absolute()
        if self._is_folder and self._final.is_dir() and any(self._final.iterdir()):
            raise Mistake(f"the folder {spec.path} is not empty: empty it or name another")
        suffix = "" if self._is_folder else self._final.suffix
        self._beside = self._final.with_name(f".{self._final.stem}.{os.getpid()}.unfinished{suffix}")
        self._fps = fps
        self.sink: PictureFolder | Recorder | None = None

    def __enter__(self) -> PictureFolder | Recorder:
        try:
            self._final.parent.mkdir(parents=True, exist_ok=True)
            self.sink = (
                PictureFolder(self._beside, every_frame=True)
                if self._is_folder
                else Recorder(self._beside, fps=self._fps, every_frame=True)
            )
            self.sink.start()
        except (*DEVICE_ERRORS, OSError) as error:
            self.clear()
            raise Mistake(str(error)) from error
        return self.sink

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.clear()
            return
        try:
            if self.sink is not None:
                self.sink.stop()
            if self._is_folder and self._final.is_dir():
                self._final.rmdir()  # empty, see above; Windows does not replace a folder
            os.replace(self._beside, self._final)
        except (*DEVICE_ERRORS, OSError) as failure:
            self.clear()
            raise Mistake(f"{self._final.name} could not be finished: {failure}") from failure

    def clear(self) -> None:
        """Take away what is not finished, whenever it was interrupted; a second time does nothing."""
        if self.sink is not None:
            with contextlib.suppress(RuntimeError):  # its own error, or that it was interrupted while it started
                self.sink.stop()
        if self._is_folder:
            shutil.rmtree(self._beside, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                self._beside.unlink(missing_ok=True)
