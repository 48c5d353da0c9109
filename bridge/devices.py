"""Opens the sources and sinks that the command line names. What they are lives in sources, sinks and ndi."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from bridge.mistake import Mistake
from bridge.ndi.library import NdiNameTaken, NdiRefused, NdiUnavailable
from bridge.ndi.receiver import NdiReceiver
from bridge.ndi.sender import NdiSender
from bridge.report import version
from bridge.sinks.frame_writer import SinkError
from bridge.sources.own_thread import Put, SourceError
from bridge.sources.parse import BadSpec, SinkSpec, SourceSpec, parse_sink, parse_source
from engine.frames import Frame
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


class NdiSourceDevice:
    """An NDI receiver as a live source."""

    ended = False

    def __init__(self, put: Put, wanted: str, *, ignore: Sequence[str]) -> None:
        """wanted: a name or host:port. ignore: senders of ours, which `any` must not find."""
        self._wanted = wanted
        self._receiver = NdiReceiver(source=wanted, put=put, ignore=ignore)

    @property
    def state(self) -> str:
        """waiting, connected or stale."""
        return self._receiver.statistics().state.value

    @property
    def error(self) -> str:
        """Why it is not connected, or what is wrong with its frames."""
        return self._receiver.statistics().last_error

    def set_tally(self, *, program: bool, preview: bool) -> None:
        """What the sender is told about itself."""
        self._receiver.set_tally(program=program, preview=preview)

    def start(self) -> None:
        """Look for the source and receive it whenever it is there. Raises NdiUnavailable."""
        self._receiver.start()

    def stop(self) -> None:
        """End within two seconds."""
        self._receiver.stop()

    def describe(self) -> str:
        """One line."""
        found = self._receiver.statistics()
        size = f" {found.width}x{found.height}" if found.width else ""
        return f"NDI {found.source_name or self._wanted}{size}"


class NdiSinkDevice:
    """An NDI sender as a live sink."""

    def __init__(self, name: str, *, fps: float) -> None:
        self._name = name
        self._sender = NdiSender(name=name, frame_rate=fps or 30.0, version=version())

    @property
    def error(self) -> str:
        """What went wrong with the newest frame."""
        return self._sender.statistics().last_error

    def start(self) -> None:
        """Announce the sender. Raises NdiUnavailable or NdiRefused."""
        self._sender.start()

    def stop(self) -> None:
        """End within two seconds."""
        self._sender.stop()

    def show(self, frame: Frame) -> None:
        """Send, if anyone receives."""
        self._sender.show(frame)

    def tally(self) -> tuple[bool, bool]:
        """Whether a receiver has it on program, and on preview."""
        statistics = self._sender.statistics()
        return statistics.on_program, statistics.on_preview

    def set_rate(self, fps: float) -> None:
        """Tell receivers another rate (Hz, above 0)."""
        self._sender.frame_rate = fps

    @property
    def source_name(self) -> str:
        """What receivers see; the machine's name is in it once the sender is announced."""
        return self._sender.statistics().source_name or self._name

    def describe(self) -> str:
        """One line: the name to pick in a receiving program."""
        return f"NDI {self.source_name}"


def open_source(text: str, put: Put, *, size: tuple[int, int], fps: float, ignore: Sequence[str]) -> LiveSource:
    """The source that `text` names, not started. size (width, height) and fps (Hz) are those of a test pattern;
    ignore: NDI senders of ours. Raises Mistake."""
    try:
        return _source(parse_source(text), put, size=size, fps=fps, ignore=ignore)
    except DEVICE_ERRORS as error:
        raise Mistake(str(error)) from error


def open_sink(text: str, *, fps: float, every_frame: bool = False) -> LiveSink:
    """The sink that `text` names, not started. fps: the rate it will be shown frames at. every_frame: `show` waits
    rather than drop, for rendering. Raises Mistake."""
    try:
        return _sink(parse_sink(text), fps=fps, every_frame=every_frame)
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


def _source(spec: SourceSpec, put: Put, *, size: tuple[int, int], fps: float, ignore: Sequence[str]) -> LiveSource:
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
        return NdiSourceDevice(put, spec.name or f"{host}:{spec.port}", ignore=ignore)
    from bridge.sources.clip import ClipSource

    return ClipSource(put, _path(spec.path))


def _sink(spec: SinkSpec, *, fps: float, every_frame: bool) -> LiveSink:
    if spec.kind == "ndi":
        return NdiSinkDevice(spec.name, fps=fps)
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
