"""The output thread: paces the chosen frame to the sinks and measures what was shown. What is chosen: see choice.py."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bridge.choice import FrameChoice
from bridge.clock import TickSchedule
from bridge.fallback import InputTap
from bridge.latency import LatencyRecord, Percentiles
from engine.control.live_values import LiveValues, Snapshot
from engine.frames import Frame
from engine.ports import Clock, Sink, Source

log = logging.getLogger(__name__)

LONGEST_SLEEP_SECONDS = 0.05
"""How long a changed rate, a changed switch or `stop` may go unnoticed."""

KEEP_ALIVE_SECONDS = 1.0
"""At rate 0 a picture that stands is shown again this often, for receivers that come late."""

RATE_WINDOW_SECONDS = 2.0

ALIGNED_AFTER = 10
"""Finished frames by which a run has found its pace. Ticks are then laid, once, a little after a frame's arrival: at equal
rates frames would otherwise wait up to a whole period, or arrive now before and now after the tick."""

ALIGNED_BY = 0.2
"""That little, in periods: room for frames that come late."""


@dataclass(frozen=True, slots=True)
class OutputFacts:
    """What the sinks got.

    shown: every frame. fresh: finished frames at their first showing. repeated: pictures shown again. late: ticks that
    passed unused. fps: the recent rate of `shown`. size: (width, height) of the frame that is on. recent, whole_run:
    capture to sinks, in milliseconds.
    """

    shown: int = 0
    fresh: int = 0
    repeated: int = 0
    late: int = 0
    fps: float = 0.0
    size: tuple[int, int] = (0, 0)
    recent: Percentiles = Percentiles()
    whole_run: Percentiles = Percentiles()


class Output:
    """Shows one frame a tick of `output_fps`, or each at once if that is 0: from the first picture on without a gap.

    Owns its thread and the sinks' turn, but not their start and stop.
    """

    def __init__(
        self,
        *,
        finished: Source,
        tap: InputTap,
        sinks: Iterable[Sink],
        values: LiveValues,
        clock: Clock,
        size: tuple[int, int],
        most_fresh: int = 0,
        complain: Callable[[str], None] = log.warning,
    ) -> None:
        """size: (width, height) until a finished frame tells it. most_fresh: end after that many finished frames,
        0 = never. complain: told once of each sink that fails."""
        self._finished, self._sinks = finished, tuple(sinks)
        self._values, self._clock, self._complain = values, clock, complain
        self._most_fresh = most_fresh
        self._schedule = TickSchedule()
        self._choice = FrameChoice(finished=finished, tap=tap, size=size, now=clock.now())
        self._aligned = False
        self._latency = LatencyRecord()
        self._on: Frame | None = None
        self._on_at = 0.0
        self._failed: set[int] = set()
        self._shown = self._fresh = self._repeated = 0
        self._times: deque[float] = deque(maxlen=1024)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def complete(self) -> bool:
        """`most_fresh` frames have been shown."""
        return 0 < self._most_fresh <= self._fresh

    def start(self) -> None:
        """Begin to show."""
        self._thread = threading.Thread(target=self._run, name="output", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Show no more; bounded by one frame or two seconds."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(2.0)

    def facts(self) -> OutputFacts:
        """The figures of this moment; asked from any thread."""
        earliest = self._clock.now() - RATE_WINDOW_SECONDS
        times = [moment for moment in self._times.copy() if moment > earliest]
        return OutputFacts(
            shown=self._shown,
            fresh=self._fresh,
            repeated=self._repeated,
            late=self._schedule.late,
            fps=(len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else 0.0,
            size=(on.width, on.height) if (on := self._on) is not None else (0, 0),
            recent=self._latency.recent(),
            whole_run=self._latency.whole_run(),
        )

    def turn(self) -> None:
        """One pass: wait for the next tick or frame (0.05 s at most) and show what is due."""
        rate, now = self._targets().number("output_fps"), self._clock.now()
        if rate <= 0.0:
            self._finished.wait(LONGEST_SLEEP_SECONDS)
            self._show_if_new()
            return
        due = self._schedule.due(now, rate)
        if due - now > LONGEST_SLEEP_SECONDS:
            self._clock.sleep_until(now + LONGEST_SLEEP_SECONDS)
            return
        if self._fresh >= ALIGNED_AFTER and not self._aligned and self._finished.wait(due - now):
            self._schedule.begin(self._clock.now() + ALIGNED_BY / rate, rate)
            self._aligned = True
            return
        self._clock.sleep_until(due)
        self._schedule.take(due)
        frame = self._choice.choose(self._targets(), self._clock.now())
        if frame is not None:
            self._show(frame)

    def _run(self) -> None:
        while not self._stopping.is_set() and not self.complete:
            self.turn()

    def _targets(self) -> Snapshot:
        """Switches act at once, so the values asked for are taken, not the smoothed ones."""
        return Snapshot(values=self._values.targets())

    def _show_if_new(self) -> None:
        now = self._clock.now()
        frame = self._choice.choose(self._targets(), now)
        if frame is not None and (frame is not self._on or now - self._on_at >= KEEP_ALIVE_SECONDS):
            self._show(frame)

    def _show(self, frame: Frame) -> None:
        for place, sink in enumerate(self._sinks):
            self._hand(place, sink, frame)
        now = self._clock.now()
        self._shown += 1
        self._times.append(now)
        if frame is self._on or self._choice.is_repeat(frame):
            self._repeated += 1
        elif self._choice.is_first_showing(frame):
            self._fresh += 1
            self._latency.add((now - frame.captured_at) * 1000.0)
        self._on, self._on_at = frame, now

    def _hand(self, place: int, sink: Sink, frame: Frame) -> None:
        try:
            sink.show(frame)
        except Exception as error:
            # A sink is a device of its own: what befalls one must not darken the others.
            if place not in self._failed:
                self._failed.add(place)
                self._complain(f"{type(sink).__name__} failed, and is tried again with every frame: {error}")
