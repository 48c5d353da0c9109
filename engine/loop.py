"""The run loop: newest frame and snapshot into the stream, finished frames out, and what is measured on the way.

It knows no processes, no devices and no parameters but those that say when to go on without input.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from engine.control.live_values import Snapshot
from engine.frames import Frame
from engine.loop_report import MISTAKES, Report, plain_words, punctuality_of
from engine.ports import Clock, Sink, Source, Stream
from engine.rate import Rate
from engine.spread import SpreadSink

WAIT_SECONDS = 0.05
"""Longest wait for a frame: how late a parameter, a trigger or the end may be noticed while nothing comes."""
ARRIVING_SECONDS = 0.002
"""Longest wait while a finished picture is on its way from the device."""
STILL_SECONDS = 0.25
"""Time without a new frame after which the source counts as still."""
REPORT_SECONDS = 0.1
WAITING_SECONDS = 1.0
"""Time without work after which the state is called waiting."""
ERROR_SECONDS = 5.0
"""Time of health after which an error is not shown any more."""
FAILURES_IN_A_ROW = 3
FASTEST = 240.0
"""Most steps a second without input, as `output_fps` 0 sets no pace."""


class Values(Protocol):
    """Where the snapshots come from: engine.control's LiveValues, or the engine's end of the channel."""

    def snapshot(self, dt_seconds: float) -> Snapshot:
        """The values of the next frame, `dt_seconds` after the last snapshot."""
        ...


def run(
    stream: Stream,
    source: Source,
    sink: Sink,
    values: Values,
    *,
    clock: Clock,
    stop: Callable[[], bool],
    report: Callable[[Report], None],
) -> None:
    """Run until `stop()`. A failed step is reported and the loop goes on; the third in a row is raised."""
    loop = RunLoop(stream, source, sink, values, clock=clock, report=report)
    while not stop():
        loop.turn()


class RunLoop:
    """The state of the loop between two turns."""

    def __init__(
        self,
        stream: Stream,
        source: Source,
        sink: Sink,
        values: Values,
        *,
        clock: Clock,
        report: Callable[[Report], None],
    ) -> None:
        self._stream, self._source, self._values = stream, source, values
        self._spread = SpreadSink(sink, clock)
        self._clock, self._report = clock, report
        now = clock.now()
        self._now = self._worked_at = self._frame_at = self._stepped_at = now
        self._reported_at = self._failed_at = float("-inf")
        self._frames_in = self._frames_out = self._failures = 0
        self._rate = Rate()
        self._state, self._error = "running", ""
        self._fired: frozenset[str] = frozenset()
        self._settled = True
        self._take_snapshot()

    def turn(self) -> None:
        """Wait for work for a short while, do it if it came, tell how it went."""
        frame = self._wait_for_frame()
        self._take_snapshot()
        if frame is not None:
            self._frames_in += 1
            self._step(frame)
            self._frame_at = self._clock.now()
            self._settled = False
        elif self._due() <= self._now:
            self._step(None)
        elif not self._settled and self._still() and not self._goes_on():
            self._settled = True
            if self._stream.in_flight:
                self._attempt(lambda: self._stream.flush(self._snapshot), at_once=True)
        elif self._stream.arriving:
            self._attempt(self._stream.arrived)
        self._tell()

    def _wait_for_frame(self) -> Frame | None:
        """The newest frame; waits for one as long as there is nothing else to do."""
        if self._snapshot.text("mode") == "text_to_image":
            # The prompt alone sets the pace, a frame that comes between two steps waits for the next.
            due = self._due()
            now = self._clock.now()
            self._clock.sleep_until(min(due, now + self._longest_wait()))
            return self._source.newest() if due <= self._clock.now() else None
        frame = self._source.newest()
        if frame is None:
            left = min(self._due() - self._clock.now(), self._longest_wait())
            if left > 0.0 and self._source.wait(left):
                frame = self._source.newest()
        return frame

    def _longest_wait(self) -> float:
        return ARRIVING_SECONDS if self._stream.arriving else WAIT_SECONDS

    def _take_snapshot(self) -> None:
        now = self._clock.now()
        self._snapshot = self._values.snapshot(now - self._now)
        self._fired |= self._snapshot.fired
        self._now = now
        if "reset" in self._snapshot.fired:
            self._stream.reset()

    def _goes_on(self) -> bool:
        values = self._snapshot
        return values.text("mode") == "text_to_image" or values.text("without_input") == "dream"

    def _still(self) -> bool:
        return self._clock.now() - self._frame_at >= STILL_SECONDS

    def _due(self) -> float:
        """When the next step without a frame is due: the pace of the output, as sinks show no more."""
        if not self._goes_on():
            return float("inf")
        fps = self._snapshot.number("output_fps")
        due = self._stepped_at + 1.0 / min(fps or FASTEST, FASTEST)
        if self._snapshot.text("mode") == "text_to_image":
            return due
        return max(due, self._frame_at + STILL_SECONDS)

    def _step(self, frame: Frame | None) -> None:
        due = self._due()
        self._stepped_at = due if 0.0 <= self._now - due < WAIT_SECONDS else self._now  # a late wake-up does not add up
        # Triggers fired while there was nothing to step reach the stream with the next step.
        values, self._fired = replace(self._snapshot, fired=self._fired), frozenset()
        self._attempt(lambda: self._stream.step(frame, values))

    def _attempt(self, work: Callable[[], list[Frame]], *, at_once: bool = False) -> None:
        """Do it and show what was finished, spread over time unless at_once. A failure leaves the picture as it is; too many of them
        are raised."""
        try:
            finished = work()
            if (len(finished) > 1 and not at_once) or self._snapshot.whole("frame_buffer") > 1:
                self._spread.show_together(finished)
            else:
                self._spread.show_all(finished)
            for _ in finished:
                self._frames_out += 1
                self._rate.count(self._clock.now())
        except Exception as error:
            self._failed_at = self._clock.now()
            self._error = plain_words(error)
            self._tell(at_once=True)
            if not isinstance(error, MISTAKES):  # what was asked for cannot be; it may be taken back at any moment
                self._failures += 1
                if self._failures >= FAILURES_IN_A_ROW:
                    raise
                self._stream.reset()
        else:
            self._failures = 0
        self._worked_at = self._clock.now()

    def _tell(self, *, at_once: bool = False) -> None:
        now = self._clock.now()
        state = "waiting" if now - self._worked_at >= WAITING_SECONDS else "running"
        if not at_once and state == self._state and now - self._reported_at < REPORT_SECONDS:
            return
        if problems := self._stream.problems():
            self._error, self._failed_at = "; ".join(dict.fromkeys(problems)), now
        if now - self._failed_at >= ERROR_SECONDS:
            self._error = ""
        self._state, self._reported_at = state, now
        report = Report(
            state=state,
            fps=self._rate.at(now),
            frames_in=self._frames_in,
            frames_out=self._frames_out,
            skipped=self._stream.skipped,
            stage_ms=self._stream.stage_ms(),
            punctuality=punctuality_of(self._stream),
            error=self._error,
        )
        self._report(report)
