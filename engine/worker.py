"""The engine process: builds the stream, runs the loop, tells the bridge how it goes, and dies when the bridge does.

Messages to the bridge, JSON objects: {"state": ...}, {"stream": {model, device, dtype, runtime, size}}, {"report": a
Report of loop_report.py}, {"failed": one plain line, "fault": "user" or "ours"}.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing import connection
from typing import Protocol, cast

from engine import segments
from engine.clock import MonotonicClock
from engine.control.live_values import Snapshot
from engine.frames import Frame
from engine.live_channel import ChannelHandle, EngineEnd
from engine.loop import run
from engine.loop_report import MISTAKES, Report, plain_words
from engine.pipelines.build import BuiltStream, close_stream
from engine.settings import Settings
from engine.shared_frames import RingHandle, RingReader, RingWriter

BUILD_STREAM = "engine.pipelines.build:build_stream"
"""Where the stream comes from, as `module:function`."""
MISTAKE_EXIT = 2
"""Exit status after a mistake of the user: starting again would not help."""
FIRST_VALUES_SECONDS = 30.0


class BuildStream(Protocol):
    """engine.pipelines.build.build_stream and what stands in for it. Raises SettingsError for the user's mistakes."""

    def __call__(self, settings: Settings, values: Snapshot, *, live: bool) -> BuiltStream: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineStart:
    """All that an engine process is started with."""

    settings: Settings
    channel: ChannelHandle
    input: RingHandle
    output: RingHandle
    build: str = BUILD_STREAM


def run_worker(start: EngineStart) -> None:
    """The whole life of the engine process; started by the bridge with `spawn`, returns or exits when it is over."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to both; the bridge decides what happens
    _die_with_parent((start.input.name, start.output.name, start.channel.name))
    channel = EngineEnd(start.channel)
    source, sink = RingReader(start.input), _RingSink(start.output)
    status = 1
    try:
        stream = _load(start, channel)
        channel.tell({"stream": describe(stream)})
        run(
            stream,
            source,
            sink,
            channel,
            clock=MonotonicClock(),
            stop=lambda: channel.stopped,
            report=_reporter(stream, channel),
        )
        close_stream(stream)
        channel.tell({"state": "stopped"})
        status = 0
    except EOFError:
        pass  # the bridge is gone
    except Exception as error:
        mistake = is_users_mistake(error)
        status = MISTAKE_EXIT if mistake else 1
        if not mistake:
            traceback.print_exc()
        channel.tell({"failed": plain_words(error), "fault": "user" if mistake else "ours"})
    channel.finish(1.0)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # whatever a driver still wants to tidy up must not keep the process from ending


def find_build(path: str) -> BuildStream:
    """The function that `module:function` names."""
    module, _, function = path.partition(":")
    return cast(BuildStream, getattr(importlib.import_module(module), function))


def describe(stream: BuiltStream) -> dict[str, object]:
    """What the stream runs, for the bridge."""
    facts: dict[str, object] = {"model": stream.model, "device": stream.device, "dtype": stream.dtype, "runtime": stream.runtime}
    return facts | {"size": list(stream.size)}


def is_users_mistake(error: BaseException) -> bool:
    """Whether starting again with the same settings would only fail again."""
    return isinstance(error, MISTAKES)


class _RingSink:
    def __init__(self, handle: RingHandle) -> None:
        self._ring = RingWriter(handle)

    def show(self, frame: Frame) -> None:
        self._ring.put(frame.format, frame.pixels, frame.captured_at, frame.index)


def _load(start: EngineStart, channel: EngineEnd) -> BuiltStream:
    channel.tell({"state": "loading"})
    if not channel.wait_for_values(FIRST_VALUES_SECONDS):
        raise RuntimeError(f"the bridge sent no values within {FIRST_VALUES_SECONDS:.0f} s")
    stream = find_build(start.build)(start.settings, channel.peek(), live=True)
    channel.jump()  # values set while the model was loading
    return stream


def _reporter(stream: BuiltStream, channel: EngineEnd) -> Callable[[Report], None]:
    def report(news: Report) -> None:
        channel.tell_newest({"report": asdict(news), "stream": describe(stream)})

    return report


def _die_with_parent(names: tuple[str, ...]) -> None:
    """Exit as soon as the parent is gone, wherever the main thread is, and take the shared memory away for it."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        segments.remove_named(names)
        os._exit(1)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()
