"""Watches a live run from the main thread: readouts, the status line, what changed for the worse, and when it is over."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence

from bridge.devices import DEVICE_ERRORS, LiveSink, LiveSource, NdiSinkDevice, NdiSourceDevice
from bridge.engine_facts import EngineFacts
from bridge.engine_room import Engine
from bridge.osc.server import OscServer
from bridge.output import Output, OutputFacts
from bridge.report import RunReport, version
from bridge.status_line import StatusLine
from engine.control.live_values import LiveValues
from engine.control.parameter import Value
from engine.ports import Clock
from engine.settings import Settings

LOOK_SECONDS = 0.1
LAST_FRAMES_SECONDS = 2.0
"""After a source has ended, how long nothing new must have come before a run of so many frames gives up."""
REVIVE_SECONDS = 3.0
RUNNING = ("running", "waiting")


class Watch:
    """Looks ten times a second. `failure` says why a run is over that could not go on; empty otherwise."""

    def __init__(
        self,
        *,
        values: LiveValues,
        engine: Engine,
        output: Output,
        source: LiveSource,
        sinks: Sequence[LiveSink],
        osc: OscServer,
        status: StatusLine,
        clock: Clock,
        seconds: float | None,
        frames: int,
    ) -> None:
        """seconds: how long to run, counted from when the engine runs, None = no end. frames: whether the output ends."""
        self._values, self._engine, self._output = values, engine, output
        self._source, self._sinks, self._osc = source, tuple(sinks), osc
        self._status, self._clock = status, clock
        self._seconds, self._frames = seconds, frames
        self._running_since: float | None = None
        self._quiet_since = clock.now()
        self._fresh = 0
        self._rate = 0.0
        self._revive_at = 0.0
        self._runtime = ""
        self._told: dict[str, str] = {}
        self.failure = ""

    def until_over(self, asked: threading.Event) -> None:
        """Return when the run is over by itself, has failed, or `asked` is set."""
        while not asked.wait(LOOK_SECONDS):
            now = self._clock.now()
            engine, output = self._engine.facts(), self._output.facts()
            self._report_readouts(engine, output)
            self._follow_rate()
            self._pass_tally_on()
            self._tell_changes(engine)
            self._revive_source(now)
            self._status.update(self._values, output.fps, now)
            if self._is_over(engine, output, now):
                return

    def facts(self) -> dict[str, object]:
        """For the web page, beside the readouts; from any thread."""
        engine, output = self._engine.facts(), self._output.facts()
        latency = {"p50": output.recent.p50, "p95": output.recent.p95, "p99": output.recent.p99}
        return {
            "input": self._source.describe(),
            "input_state": self._source.error or self._source.state,
            "output": [sink.describe() for sink in self._sinks],
            "output_fps": round(output.fps, 1),
            "size": "x".join(map(str, output.size)),
            "device": engine.device,
            "precision": engine.dtype,
            "runtime": engine.runtime,
            "latency_ms": {name: round(value) for name, value in latency.items()},
            "stage_ms": {name: round(value, 1) for name, value in engine.stage_ms.items()},
            "frames_in": engine.frames_in,
            "frames_out": engine.frames_out,
        }

    def report(self, *, settings: Settings) -> RunReport:
        """The figures of the run so far."""
        engine, output = self._engine.facts(), self._output.facts()
        since = self._running_since
        seconds = 0.0 if since is None else self._clock.now() - since
        targets, osc = self._values.targets(), self._osc.stats()
        return RunReport(
            version=version(),
            source=self._source.describe(),
            sinks=tuple(sink.describe() for sink in self._sinks),
            model=engine.model or settings.model,
            device=engine.device,
            dtype=engine.dtype,
            runtime=engine.runtime,
            size=output.size if engine.size == (0, 0) else engine.size,
            seed=int(str(targets["seed"])),
            seconds=seconds,
            frames_in=engine.frames_in,
            frames_out=engine.frames_out,
            dropped=engine.dropped,
            skipped=engine.skipped,
            shown=output.shown,
            repeated=output.repeated,
            late_ticks=output.late,
            fps=engine.frames_out / seconds if seconds else 0.0,
            shown_fps=output.shown / seconds if seconds else 0.0,
            latency_ms=output.whole_run,
            stage_ms=dict(engine.stage_ms),
            punctuality=dict(engine.punctuality),
            engine_restarts=engine.restarts,
            error=self.failure or engine.error or self._source.error,
            parameters=targets,
            osc={"packets": osc.packets, "messages": osc.messages, "sent": osc.sent} | dict(osc.refused),
        )

    def _report_readouts(self, engine: EngineFacts, output: OutputFacts) -> None:
        """All status rows: the engine tells its own only when something happens to it."""
        own: dict[str, Value] = {"latency_ms": output.recent.p50, "repeated": output.repeated}
        self._values.report(engine.status_rows() | own)

    def _follow_rate(self) -> None:
        """NDI receivers are told the rate that frames really come at."""
        rate = float(str(self._values.get("output_fps")))
        if rate > 0.0 and rate != self._rate:
            self._rate = rate
            for sink in self._sinks:
                if isinstance(sink, NdiSinkDevice):
                    sink.set_rate(rate)

    def _pass_tally_on(self) -> None:
        """Whoever sends us a picture over NDI sees whether ours is on air."""
        if isinstance(self._source, NdiSourceDevice):
            tallies = [sink.tally() for sink in self._sinks if isinstance(sink, NdiSinkDevice)]
            self._source.set_tally(
                program=any(program for program, _ in tallies), preview=any(preview for _, preview in tallies)
            )

    def _revive_source(self, now: float) -> None:
        """A source whose thread ended on an error is started again, again and again."""
        if self._source.state != "failed":
            self._revive_at = now + REVIVE_SECONDS
        elif now >= self._revive_at:
            self._revive_at = now + REVIVE_SECONDS
            with contextlib.suppress(*DEVICE_ERRORS):
                self._source.start()

    def _tell_changes(self, engine: EngineFacts) -> None:
        """Say once what runs the model, what went wrong, and that it is well again."""
        if not self._cannot_begin(engine):  # then the run ends with that error as its last word
            self._tell("engine", engine.error)
        if engine.runtime not in ("", "none", self._runtime):
            self._runtime = engine.runtime
            self._status.say(f"  runtime   {engine.runtime}")
        self._tell("input", self._source.error)
        for sink in self._sinks:
            self._tell(sink.describe(), sink.error)

    def _tell(self, who: str, error: str) -> None:
        before = self._told.get(who, "")
        if error == before:
            return
        self._told[who] = error
        if error:
            self._status.complain(f"{who}: {error}")
        else:
            self._status.say(f"{who}: well again")

    def _cannot_begin(self, engine: EngineFacts) -> bool:
        """An engine that never ran ends the run; one that failed on stage leaves the picture to the fallback."""
        return engine.state == "failed" and self._running_since is None

    def _is_over(self, engine: EngineFacts, output: OutputFacts, now: float) -> bool:
        if self._cannot_begin(engine):
            self.failure = engine.error or "the engine cannot run"
            return True
        if self._output.complete:
            return True
        if self._running_since is None and engine.state in RUNNING:
            self._running_since = now
        if self._seconds is not None and self._running_since is not None:
            return now - self._running_since >= self._seconds
        return self._frames > 0 and self._frames_will_not_come(output, now)

    def _frames_will_not_come(self, output: OutputFacts, now: float) -> bool:
        """The source has ended, and for a while nothing new was shown."""
        ended = self._source.ended or self._source.state == "failed"
        if output.fresh != self._fresh or not ended:
            self._fresh, self._quiet_since = output.fresh, now
        return now - self._quiet_since >= LAST_FRAMES_SECONDS
