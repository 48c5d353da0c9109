"""The output under a clock held in the hand: tick times, repeats, the switches and the fallback."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bridge.fallback import InputTap
from bridge.output import KEEP_ALIVE_SECONDS, LONGEST_SLEEP_SECONDS, Output
from engine.control.live_values import LiveValues
from engine.frames import Frame, PixelFormat

SPOILT = 66


@pytest.fixture
def values() -> LiveValues:
    return LiveValues()


@pytest.fixture
def tap(values: LiveValues) -> InputTap:
    return InputTap(values)


@pytest.fixture
def build(clock: Any, source: Any, sink: Any, values: LiveValues, tap: InputTap) -> Callable[..., Output]:
    def made(more_sinks: tuple[Any, ...] = (), most_fresh: int = 0, complain: Any = None) -> Output:
        return Output(
            finished=source, tap=tap, sinks=(*more_sinks, sink), values=values, clock=clock, size=(16, 8),
            most_fresh=most_fresh, complain=complain or (lambda text: None),
        )  # fmt: skip

    return made


def turns(output: Output, clock: Any, seconds: float) -> None:
    """Let that much time pass. A pass at rate 0 that found nothing takes the time it would have waited."""
    end = clock.time + seconds
    while clock.time < end - 1e-9:
        before = clock.time
        output.turn()
        if clock.time == before:
            clock.time += 0.001


def test_nothing_is_shown_before_the_first_finished_frame(build: Any, clock: Any, sink: Any) -> None:
    turns(build(), clock, 3.0)
    assert sink.shown == []


def test_frames_leave_at_the_exact_ticks_and_missing_ones_are_repeated_and_counted(
    build: Any, clock: Any, source: Any, sink: Any, values: LiveValues
) -> None:
    values.set("output_fps", 25.0)
    output, start = build(), clock.time
    for index in range(10):  # a finished frame every third tick
        source.put(index + 1, clock.time, index)
        turns(output, clock, 3 / 25)
    assert [shown.moment for shown in sink.shown] == pytest.approx([start + k / 25 for k in range(len(sink.shown))])
    assert [shown.index for shown in sink.shown] == sorted(shown.index for shown in sink.shown)
    assert 29 <= len(sink.shown) <= 31
    facts = output.facts()
    assert (facts.fresh, facts.shown, facts.repeated, facts.late) == (10, len(sink.shown), len(sink.shown) - 10, 0)
    assert facts.fps == pytest.approx(25.0)
    assert SPOILT not in {shown.colour for shown in sink.shown}


class TimedSource:
    """A frame every `period` seconds by the clock, the way an engine at a steady rate gives them."""

    def __init__(self, clock: Any, period: float) -> None:
        self._clock, self._period = clock, period
        self._start = clock.time + 0.001
        self._given = -1

    def _newest_index(self) -> int:
        return math.floor((self._clock.time - self._start) / self._period + 1e-9)

    def newest(self) -> Frame | None:
        index = self._newest_index()
        if index <= self._given:
            return None
        self._given = index
        pixels = np.zeros((8, 16, 4), dtype=np.uint8)
        captured_at = self._start + index * self._period
        return Frame(pixels=pixels, format=PixelFormat.BGRX, captured_at=captured_at, index=index)

    def wait(self, timeout_seconds: float) -> bool:
        arrives = self._start + max(self._given + 1, self._newest_index()) * self._period
        self._clock.time = max(self._clock.time, min(arrives, self._clock.time + timeout_seconds))
        return bool(self._newest_index() > self._given)


@pytest.mark.parametrize("rate", [25.0, 60.0])
def test_at_equal_rates_ticks_settle_a_fifth_of_a_period_behind_the_frames(
    clock: Any, sink: Any, values: LiveValues, tap: InputTap, rate: float
) -> None:
    values.set("output_fps", rate)
    source = TimedSource(clock, 1 / rate)
    output = Output(finished=source, tap=tap, sinks=(sink,), values=values, clock=clock, size=(16, 8))
    turns(output, clock, 40 / rate)
    waits = [(shown.moment - shown.captured_at) * rate for shown in sink.shown]
    assert min(waits[:8]) > 0.9  # the ticks began just before the frames: each waited nearly a whole period
    assert waits[-20:] == pytest.approx([0.2] * 20, abs=1e-3)
    indices = [shown.index for shown in sink.shown[-20:]]
    assert indices == list(range(indices[0], indices[0] + 20))
    assert max(np.diff([shown.moment for shown in sink.shown])) < 1.21 / rate


def test_a_slow_sink_makes_ticks_late_and_they_are_skipped_not_bunched(
    build: Any, clock: Any, source: Any, sink: Any, values: LiveValues
) -> None:
    values.set("output_fps", 100.0)
    sink.seconds_per_frame = 0.025
    output, start = build(), clock.time
    source.put(1, clock.time, 0)
    turns(output, clock, 0.3)
    assert [shown.moment - start for shown in sink.shown] == pytest.approx([0.03 * k for k in range(len(sink.shown))])
    assert output.facts().late == 2 * (len(sink.shown) - 1)


def test_a_slow_rate_does_not_make_the_output_deaf(build: Any, clock: Any, source: Any, sink: Any, values: LiveValues) -> None:
    values.set("output_fps", 0.1)
    output = build()
    source.put(1, clock.time, 0)
    output.turn()
    before = clock.time
    output.turn()
    assert clock.time == pytest.approx(before + LONGEST_SLEEP_SECONDS)
    values.set("output_fps", 50.0)
    turns(output, clock, 0.1)
    assert len(sink.shown) >= 5


def test_rate_0_passes_each_frame_on_once_and_at_once(build: Any, clock: Any, source: Any, sink: Any, values: LiveValues) -> None:
    values.set("output_fps", 0)
    output, moments = build(), []
    for index in range(5):
        moments.append(clock.time)
        source.put(index + 1, clock.time, index)
        turns(output, clock, 0.017)
    assert [(shown.index, shown.moment) for shown in sink.shown] == list(enumerate(moments))
    assert output.facts().repeated == 0


def test_rate_0_shows_a_standing_picture_again_for_receivers_that_come_late(
    build: Any, clock: Any, source: Any, sink: Any, values: LiveValues
) -> None:
    values.set("output_fps", 0)
    output = build()
    source.put(9, clock.time, 0)
    turns(output, clock, 3.5 * KEEP_ALIVE_SECONDS)
    assert [shown.colour for shown in sink.shown] == [9] * 4
    assert output.facts().repeated == 3


def test_no_gap_while_the_engine_is_away(build: Any, clock: Any, source: Any, sink: Any) -> None:
    output = build()
    source.put(5, clock.time, 0)
    turns(output, clock, 20.0)
    gaps = np.diff([shown.moment for shown in sink.shown])
    assert len(gaps) > 500 and gaps.max() < 0.2
    assert {shown.colour for shown in sink.shown} == {5}  # hold is the default, for ever


def test_freeze_keeps_the_picture_that_is_on_and_lets_go_of_it(build: Any, clock: Any, source: Any, sink: Any, values: LiveValues) -> None:
    output = build()
    source.put(1, clock.time, 0)
    turns(output, clock, 0.1)
    values.set("freeze", True)
    for index in range(1, 6):
        source.put(1 + index, clock.time, index)
        turns(output, clock, 0.1)
    assert {shown.colour for shown in sink.shown} == {1}
    assert output.facts().fresh == 1
    values.set("freeze", False)
    turns(output, clock, 0.1)
    assert sink.shown[-1].colour == 6


def test_blackout_is_black_at_the_size_of_the_picture_and_ends_with_the_newest(
    build: Any, clock: Any, source: Any, sink: Any, values: LiveValues
) -> None:
    output = build()
    source.put(7, clock.time, 0, size=(32, 24))
    turns(output, clock, 0.1)
    values.set("blackout", True)
    turns(output, clock, 0.1)
    assert (sink.shown[-1].colour, sink.shown[-1].size) == (0, (32, 24))
    values.set("freeze", True)  # freezes the picture under the black, not the black
    turns(output, clock, 0.1)
    values.set("blackout", False)
    turns(output, clock, 0.1)
    assert (sink.shown[-1].colour, sink.shown[-1].index) == (7, 0)
    assert output.facts().fresh == 1


def test_a_picture_that_comes_back_from_under_the_black_is_a_repeat(
    build: Any, clock: Any, source: Any, sink: Any, values: LiveValues
) -> None:
    output = build()
    source.put(7, clock.time, 0)
    turns(output, clock, 0.1)
    values.set("blackout", True)
    turns(output, clock, 0.1)
    values.set("blackout", False)
    turns(output, clock, 0.1)
    assert [shown.colour for shown in sink.shown if not shown.colour] and sink.shown[-1].colour == 7
    facts = output.facts()
    assert (facts.fresh, facts.repeated) == (1, facts.shown - 2)


def test_black_is_the_fallback_only_after_its_time_and_only_until_the_next_frame(
    build: Any, clock: Any, source: Any, sink: Any, values: LiveValues
) -> None:
    values.set_many({"fallback": "black", "fallback_after": 2.0})
    output, start = build(), clock.time
    source.put(7, clock.time, 0)
    turns(output, clock, 3.0)
    for shown in sink.shown:
        assert shown.colour == (7 if shown.moment - start < 2.0 - 1e-6 else 0)
    source.put(8, clock.time, 1)
    turns(output, clock, 0.1)
    assert sink.shown[-1].colour == 8


def test_the_input_is_the_fallback_scaled_to_the_size_of_the_picture(
    build: Any, clock: Any, source: Any, sink: Any, values: LiveValues, tap: InputTap
) -> None:
    values.set_many({"fallback": "input", "fallback_after": 1.0})
    output = build()
    source.put(7, clock.time, 0, size=(32, 24))
    turns(output, clock, 0.5)
    for value in (100, 101):
        tap.put(PixelFormat.BGRX, np.full((9, 16, 4), value, dtype=np.uint8), clock.time, 3)
        turns(output, clock, 0.7)
        assert sink.shown[-1].size == (32, 24)
    assert (sink.shown[-1].colour, sink.shown[-1].index) == (101, 3)
    turns(output, clock, 5.0)
    assert sink.shown[-1].colour == 101  # a lost input leaves its last frame on
    values.set("fallback", "hold")
    turns(output, clock, 0.1)
    assert sink.shown[-1].colour == 7


def test_a_fallback_shows_even_before_the_first_finished_frame(build: Any, clock: Any, sink: Any, values: LiveValues) -> None:
    values.set_many({"fallback": "black", "fallback_after": 1.0})
    start = clock.time
    turns(build(), clock, 1.5)
    assert sink.shown[0].moment - start == pytest.approx(1.0, abs=1 / 30 + 1e-6)
    assert {shown.size for shown in sink.shown} == {(16, 8)}


def test_a_failing_sink_is_reported_once_and_darkens_no_other(build: Any, clock: Any, source: Any, sink: Any) -> None:
    complaints: list[str] = []
    broken = type(sink)(clock)
    broken.failing = True
    output = build(more_sinks=(broken,), complain=complaints.append)
    source.put(1, clock.time, 0)
    turns(output, clock, 1.0)
    assert len(sink.shown) >= 29
    assert len(complaints) == 1 and "MemorySink" in complaints[0] and "the cable is out" in complaints[0]
    broken.failing = False
    turns(output, clock, 0.1)
    assert broken.shown


def test_latency_runs_from_capture_to_the_end_of_showing_and_leaves_repeats_out(
    build: Any, clock: Any, source: Any, sink: Any, values: LiveValues
) -> None:
    values.set("output_fps", 10.0)
    sink.seconds_per_frame = 0.010
    output, expected = build(), []
    for index in range(20):
        source.put(1, clock.time - 0.001 * index, index)
        turns(output, clock, 0.3)
    firsts = {shown.index: shown for shown in reversed(sink.shown)}
    expected = [(shown.moment + 0.010 - shown.captured_at) * 1000.0 for shown in firsts.values()]
    assert len(expected) == output.facts().fresh == 20
    assert output.facts().recent.p50 == pytest.approx(np.percentile(expected, 50))
    assert output.facts().recent.p99 == pytest.approx(np.percentile(expected, 99))


def test_the_output_ends_by_itself_after_the_frames_asked_for(build: Any, clock: Any, source: Any, sink: Any, values: LiveValues) -> None:
    values.set("output_fps", 0)
    output = build(most_fresh=3)
    for index in range(9):
        source.put(1, clock.time, index)
        if not output.complete:
            output.turn()
    assert output.complete and [shown.index for shown in sink.shown] == [0, 1, 2]
