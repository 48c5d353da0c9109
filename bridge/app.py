"""The composition of a live run: source, engine, output, sinks, OSC and web page, from start to a clean end."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bridge import announce, devices
from bridge.engine_room import Engine, make_engine
from bridge.fallback import InputTap
from bridge.mistake import Mistake
from bridge.opening import Opening
from bridge.osc.server import OscError, OscServer
from bridge.output import Output
from bridge.port_busy import PortBusy
from bridge.report import make_folder_for, write_report
from bridge.status_line import StatusLine, speak_through
from bridge.stop_signals import StopSignals
from bridge.watch import Watch
from bridge.web import WebServer, WebUnavailable
from engine.clock import MonotonicClock
from engine.control.live_values import Snapshot
from engine.frames import PixelFormat, Pixels
from engine.ports import Sink
from engine.segments import NoSharedMemory

log = logging.getLogger(__name__)

PATTERN_FPS = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """What a live run was asked for, beside its settings and values.

    sinks: empty for an NDI sender of the default name. seconds: of running, None = until stopped. frames: finished
    frames to show, 0 = no end. web_port: None for no page, 0 for any port. web_needed: no page is an error.
    """

    source: str = "test"
    sinks: tuple[str, ...] = ()
    seconds: float | None = None
    frames: int = 0
    osc_host: str = "127.0.0.1"
    osc_port: int
    web_host: str = "127.0.0.1"
    web_port: int | None
    web_needed: bool = False
    in_process: bool = False
    report: Path | None = None


def run_live(options: RunOptions, opening: Opening, *, quiet: bool) -> None:
    """One live run from start to end, told on the screen. Raises Mistake."""
    status = StatusLine(quiet=quiet)
    with speak_through(status):
        App(options, opening, status).run()


class App:
    """One live run. `run` may be called once, from the main thread."""

    def __init__(self, options: RunOptions, opening: Opening, status: StatusLine) -> None:
        self._options, self._opening, self._status = options, opening, status
        self._values = opening.values
        self._clock = MonotonicClock()
        self._tap = InputTap(self._values)
        targets = Snapshot(values=self._values.targets())
        self._size = (targets.whole("width"), targets.whole("height"))
        self._fps = targets.number("output_fps")
        self._watch: Watch | None = None

    def run(self) -> None:
        """Run until it is over or asked to end. Raises Mistake, mostly before anything is shown."""
        if self._options.report is not None:
            make_folder_for(self._options.report)
        with StopSignals() as signals, contextlib.ExitStack() as ending:
            source_size = devices.source_pixels(self._options.source, size=self._size)
            osc = self._open_osc(ending)
            web = self._open_web(ending)
            sinks = self._open_sinks(ending)
            engine = self._make_engine(source_size)
            source = self._make_source(engine, sinks)
            self._start("the engine", engine.start, engine.stop, ending)
            output = self._make_output(engine, (*sinks, web) if web is not None else sinks)
            self._start("the output", output.start, output.stop, ending)
            self._start("the source", source.start, source.stop, ending)
            announce.running(self._status, source, sinks, osc, web, self._opening)
            watch = Watch(
                values=self._values, engine=engine, output=output, source=source, sinks=sinks, osc=osc,
                status=self._status, clock=self._clock, seconds=self._options.seconds, frames=self._options.frames,
            )  # fmt: skip
            self._watch = watch
            watch.until_over(signals.asked)
            report = watch.report(settings=self._opening.settings)
            self._status.close()
        if self._options.report is not None:
            write_report(self._options.report, report)
        if watch.failure:
            raise Mistake(watch.failure)
        announce.over(self._status, report)

    def _facts(self) -> dict[str, object]:
        """For the web page."""
        return self._watch.facts() if self._watch is not None else {}

    def _open_osc(self, ending: contextlib.ExitStack) -> OscServer:
        server = OscServer(self._values, host=self._options.osc_host, port=self._options.osc_port)
        self._start("OSC", server.start, server.stop, ending)
        return server

    def _open_web(self, ending: contextlib.ExitStack) -> WebServer | None:
        if self._options.web_port is None:
            return None
        server = WebServer(
            self._values, host=self._options.web_host, port=self._options.web_port, facts=self._facts
        )
        try:
            server.start()
        except PortBusy as error:
            raise Mistake(str(error)) from error
        except WebUnavailable as error:
            if self._options.web_needed:
                raise Mistake(str(error)) from error
            self._status.complain(str(error))
            return None
        ending.callback(_quietly, "the web page", server.stop)
        return server

    def _open_sinks(self, ending: contextlib.ExitStack) -> tuple[devices.LiveSink, ...]:
        if not self._options.sinks:
            return self._open_default_sink(ending)
        sinks = tuple(self._open_sink(text) for text in self._options.sinks)
        for sink in sinks:
            self._start(sink.describe(), sink.start, sink.stop, ending)
        return sinks

    def _open_sink(self, text: str) -> devices.LiveSink:
        size = self._opening.settings.output_size or self._size
        return devices.open_sink(text, fps=self._fps, size=size, in_process=self._options.in_process)

    def _open_default_sink(self, ending: contextlib.ExitStack) -> tuple[devices.LiveSink, ...]:
        """An NDI sender under the first name that is free; without NDI, a plain warning and no sink."""
        for number in range(1, 10):
            name = devices.DEFAULT_SENDER + (f" {number}" if number > 1 else "")
            sink = self._open_sink(f"ndi:{name}")
            try:
                sink.start()
            except devices.NdiNameTaken:
                continue
            except devices.DEVICE_ERRORS as error:
                self._status.complain(f"running without NDI output: {error}")
                return ()
            ending.callback(_quietly, sink.describe(), sink.stop)
            return (sink,)
        self._status.complain("running without NDI output: nine senders of this name run already")
        return ()

    def _make_engine(self, source_size: tuple[int, int] | None) -> Engine:
        return make_engine(
            self._opening.settings,
            self._values,
            source=source_size,
            in_process=self._options.in_process,
            clock=self._clock,
        )

    def _make_source(self, engine: Engine, sinks: tuple[devices.LiveSink, ...]) -> devices.LiveSource:
        def put(format: PixelFormat, pixels: Pixels, captured_at: float, index: int) -> None:
            self._tap.put(format, pixels, captured_at, index)
            engine.put(format, pixels, captured_at, index)

        own = [name for sink in sinks if (name := devices.sender_name(sink))]
        fps = self._fps or PATTERN_FPS
        return devices.open_source(
            self._options.source, put, size=self._size, fps=fps, ignore=own, in_process=self._options.in_process
        )

    def _make_output(self, engine: Engine, sinks: tuple[Sink, ...]) -> Output:
        return Output(
            finished=engine.finished,
            tap=self._tap,
            sinks=sinks,
            values=self._values,
            clock=self._clock,
            size=self._opening.settings.output_size or self._size,
            most_fresh=self._options.frames,
            complain=self._status.complain,
        )

    def _start(
        self, what: str, start: Callable[[], None], stop: Callable[[], None], ending: contextlib.ExitStack
    ) -> None:
        """Start a part, and have it stopped at the end whatever happens."""
        try:
            start()
        except (*devices.DEVICE_ERRORS, PortBusy, OscError, NoSharedMemory) as error:
            raise Mistake(str(error)) from error
        ending.callback(_quietly, what, stop)


def _quietly(what: str, stop: Callable[[], None]) -> None:
    """A part that fails to stop must not keep the others from stopping."""
    try:
        stop()
    except Exception as error:
        log.warning("%s did not stop cleanly: %s", what, error)
