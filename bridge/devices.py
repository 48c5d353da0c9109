"""Opens the sources and sinks that the command line names. What they are lives in sources, sinks and ndi_devices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from bridge.mistake import Mistake
from bridge.ndi.library import NdiNameTaken, NdiRefused, NdiUnavailable
from bridge.ndi_devices import NdiSinkDevice, NdiSourceDevice
from bridge.sinks.frame_writer import SinkError
from bridge.sources.own_thread import Put, SourceError
from bridge.sources.parse import BadSpec, SinkSpec, SourceSpec, parse_sink, parse_source
from engine.ports import Sink

DEVICE_ERRORS = (BadSpec, SourceError, SinkError, NdiUnavailable, NdiRefused)
"""What a device says when it cannot be had: one plain sentence each."""

DEFAULT_SENDER = "Phosphene"

__all__ = [
    "DEFAULT_SENDER",
    "DEVICE_ERRORS",
    "LiveSink",
    "LiveSource",
    "NdiNameTaken",
    "NdiSinkDevice",
    "NdiSourceDevice",
    "open_sink",
    "open_source",
    "sender_name",
    "source_pixels",
]


class LiveSource(Protocol):
    """A device that gives frames to `put` from its own thread."""

    @property
    def state(self) -> str:
        """One word."""
        ...

    @property
    def error(self) -> str:
        """One sentence while something is wrong, else empty."""
        ...

    @property
    def ended(self) -> bool:
        """Nothing more will come."""
        ...

    def start(self) -> None:
        """Begin; raises one of DEVICE_ERRORS."""
        ...

    def stop(self) -> None:
        """End, bounded."""
        ...

    def describe(self) -> str:
        """One line."""
        ...


class LiveSink(Sink, Protocol):
    """A sink with a life."""

    @property
    def error(self) -> str:
        """One sentence while something is wrong, else empty."""
        ...

    def start(self) -> None:
        """Begin; raises one of DEVICE_ERRORS."""
        ...

    def stop(self) -> None:
        """Finish what was begun, bounded."""
        ...

    def describe(self) -> str:
        """One line."""
        ...


def open_source(
    text: str, put: Put, *, size: tuple[int, int], fps: float, ignore: Sequence[str], in_process: bool = False
) -> LiveSource:
    """The source that `text` names, not started. size (width, height) and fps (Hz) are those of a test pattern;
    ignore: NDI senders of ours. in_process: NDI stays in this process. Raises Mistake."""
    try:
        return _source(parse_source(text), put, size=size, fps=fps, ignore=ignore, in_process=in_process)
    except DEVICE_ERRORS as error:
        raise Mistake(str(error)) from error


def open_sink(
    text: str, *, fps: float, every_frame: bool = False, size: tuple[int, int] | None = None, in_process: bool = False
) -> LiveSink:
    """The sink that `text` names, not started. fps: the rate it will be shown frames at. every_frame: `show` waits
    rather than drop, for rendering. size: (width, height) of its frames if known. in_process: NDI stays in this process.
    Raises Mistake."""
    try:
        spec = parse_sink(text)
        if spec.kind == "ndi":
            return NdiSinkDevice(spec.name, fps=fps, size=size, in_process=in_process)
        return _sink(spec, fps=fps, every_frame=every_frame)
    except DEVICE_ERRORS as error:
        raise Mistake(str(error)) from error


def sender_name(sink: LiveSink) -> str:
    """The name under which a sink is seen over NDI, empty if it is not."""
    return sink.source_name if isinstance(sink, NdiSinkDevice) else ""


def source_pixels(text: str, *, size: tuple[int, int]) -> tuple[int, int] | None:
    """(width, height) of the source's frames if it can be known beforehand, else None. Raises Mistake."""
    try:
        spec = parse_source(text)
        if spec.kind in ("clip", "frames") and spec.path is not None:
            from bridge.sources.decode import facts_of

            return facts_of(spec.path).size
    except DEVICE_ERRORS as error:
        raise Mistake(str(error)) from error
    return None if spec.kind in ("ndi", "camera") else size


def _source(
    spec: SourceSpec, put: Put, *, size: tuple[int, int], fps: float, ignore: Sequence[str], in_process: bool
) -> LiveSource:
    if spec.kind == "test":
        from bridge.sources.test_pattern import TestPattern

        return TestPattern(put, *size, fps=fps)
    if spec.kind == "null":
        from bridge.sources.null_source import NullSource

        return NullSource(put)
    if spec.kind == "camera":
        from bridge.sources.camera import CameraSource

        return CameraSource(put, spec.index)
    if spec.kind == "ndi":
        host = f"[{spec.host}]" if ":" in spec.host else spec.host
        return NdiSourceDevice(put, spec.name or f"{host}:{spec.port}", ignore=ignore, in_process=in_process)
    from bridge.sources.clip import ClipSource

    return ClipSource(put, _path(spec.path))


def _sink(spec: SinkSpec, *, fps: float, every_frame: bool) -> LiveSink:
    if spec.kind == "null":
        from bridge.sinks.null_sink import NullSink

        return NullSink()
    if spec.kind == "frames":
        from bridge.sinks.picture_folder import PictureFolder

        return PictureFolder(_path(spec.path), every_frame=every_frame)
    from bridge.sinks.recorder import Recorder

    return Recorder(_path(spec.path), fps=fps or 30.0, every_frame=every_frame)


def _path(path: Path | None) -> Path:
    if path is None:
        raise Mistake("a clip or a folder needs its path")
    return path
