"""The run loop with time in the hand: when it steps, waits, flushes, dreams, and how it bears a failing stream."""

from __future__ import annotations

import numpy as np
import pytest

from engine.control.live_values import LiveValues, Snapshot
from engine.frames import Frame, PixelFormat
from engine.loop import RunLoop, run
from engine.loop_report import Report, plain_words
from engine.rate import Rate
from engine.settings import SettingsError
from engine.shared_frames import FrameTooLarge


class HandClock:
    """Time that moves only by waiting and sleeping."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def sleep_until(self, moment: float) -> None:
        self.time = max(self.time, moment)


class TimedSource:
    """Frames that are taken at given moments."""

    def __init__(self, clock: HandClock, moments: list[float]) -> None:
        self.clock, self.moments, self.given = clock, moments, 0

    def newest(self) -> Frame | None:
        ready = sum(moment <= self.clock.time + 1e-9 for moment in self.moments)
        if ready <= self.given:
            return None
        self.given = ready
        return picture(ready - 1, self.moments[ready - 1])

    def wait(self, timeout_seconds: float) -> bool:
        next_at = self.moments[self.given] if self.given < len(self.moments) else float("inf")
        self.clock.time = min(max(next_at, self.clock.time), self.clock.time + timeout_seconds)
        return next_at <= self.clock.time


class LateStream:
    """Gives a frame out two steps after it came; each step takes `step_seconds`; fails at the steps named."""

    def __init__(self, clock: HandClock, step_seconds: float = 0.0) -> None:
        self.clock, self.step_seconds = clock, step_seconds
        self.inside: list[Frame] = []
        self.steps: list[tuple[float, int | None, frozenset[str]]] = []
        self.failures: dict[int, Exception] = {}
        self.flushes = self.resets = self.skipped = 0
        self.dream_index = 1000
        self.seconds: list[float] = []
        self.told: list[str] = []
        self.late: list[Frame] = []

    @property
    def in_flight(self) -> int:
        return len(self.inside)

    def step(self, frame: Frame | None, values: Snapshot) -> list[Frame]:
        self.steps.append((self.clock.time, None if frame is None else frame.index, values.fired))
        self.seconds.append(values.seconds)
        self.clock.time += self.step_seconds
        if len(self.steps) - 1 in self.failures:
            raise self.failures[len(self.steps) - 1]
        self.inside.append(frame or picture(self.dream_index, self.clock.time))
        return [self.inside.pop(0)] if len(self.inside) > 2 else []

    @property
    def arriving(self) -> bool:
        return bool(self.late)

    def arrived(self) -> list[Frame]:
        there = [frame for frame in self.late if frame.captured_at <= self.clock.time]
        self.late = [frame for frame in self.late if frame not in there]
        return there

    def flush(self, values: Snapshot) -> list[Frame]:
        self.flushes += 1
        finished, self.inside = self.inside, []
        return finished

    def reset(self) -> None:
        self.resets += 1
        self.inside = []

    def problems(self) -> list[str]:
        told, self.told = self.told, []
        return told

    def stage_ms(self) -> dict[str, float]:
        return {"step": 1e3 * self.step_seconds}


class Stage:
    """A loop with everything around it in the hand."""

    def __init__(self, moments: list[float] | None = None, step_seconds: float = 0.0) -> None:
        self.clock = HandClock()
        self.values = LiveValues()
        self.source = TimedSource(self.clock, [100.0 + moment for moment in moments or []])
        self.stream = LateStream(self.clock, step_seconds)
        self.shown: list[int] = []
        self.reports: list[Report] = []

    def show(self, frame: Frame) -> None:
        self.shown.append(frame.index)

    def play(self, seconds: float) -> None:
        end = self.clock.time + seconds
        run(
            self.stream,
            self.source,
            self,
            self.values,
            clock=self.clock,
            stop=lambda: self.clock.time >= end - 1e-9,
            report=self.reports.append,
        )


def picture(index: int, captured_at: float) -> Frame:
    return Frame(np.zeros((2, 2, 4), np.uint8), PixelFormat.BGRA, captured_at, index)


def test_each_frame_is_stepped_when_it_comes_and_a_still_source_settles() -> None:
    stage = Stage([0.04 * n for n in range(1, 11)])
    stage.play(3.0)
    assert [index for _, index, _ in stage.stream.steps] == list(range(10))
    assert [moment for moment, _, _ in stage.stream.steps] == pytest.approx([100 + 0.04 * n for n in range(1, 11)])
    assert stage.shown == list(range(10))  # the last two by a flush
    assert stage.stream.flushes == 1


def test_frames_that_come_during_a_step_are_replaced_by_the_newest() -> None:
    stage = Stage([0.01 * n for n in range(100)], step_seconds=0.095)
    stage.play(1.0)
    taken = [index for _, index, _ in stage.stream.steps]
    assert taken == [0, 9, 19, 28, 38, 47, 57, 66, 76, 85, 95]
    assert stage.reports[-1].frames_in <= len(taken)


def test_a_slow_source_is_not_flushed_between_its_frames_while_it_is_faster_than_still() -> None:
    stage = Stage([0.2 * n for n in range(1, 20)])
    stage.play(3.7)
    assert stage.stream.flushes == 0


def test_without_frames_it_neither_steps_nor_turns_in_circles() -> None:
    stage = Stage()
    turns = 0
    loop = RunLoop(stage.stream, stage.source, stage, stage.values, clock=stage.clock, report=stage.reports.append)
    while stage.clock.time < 110.0:
        loop.turn()
        turns += 1
    assert turns <= 210
    assert stage.stream.steps == []
    assert stage.reports[-1].state == "waiting"
    assert len(stage.reports) <= 102


@pytest.mark.parametrize("fps", [12.0, 30.0, 60.0])
def test_text_to_image_goes_on_at_the_pace_of_the_output(fps: float) -> None:
    stage = Stage(step_seconds=0.004)
    stage.values.set_many({"mode": "text_to_image", "output_fps": fps})
    stage.play(5.0)
    assert len(stage.stream.steps) == pytest.approx(5.0 * fps, abs=1)
    assert {index for _, index, _ in stage.stream.steps} == {None}
    assert stage.stream.flushes == 0
    assert stage.reports[-1].fps == pytest.approx(fps, rel=0.05)
    assert stage.reports[-1].state == "running"


def test_text_to_image_takes_the_newest_input_along_without_being_driven_by_it() -> None:
    stage = Stage([0.01 * n for n in range(100)])
    stage.values.set_many({"mode": "text_to_image", "output_fps": 20})
    stage.play(1.0)
    assert len(stage.stream.steps) == pytest.approx(20, abs=1)
    assert None not in [index for _, index, _ in stage.stream.steps]


def test_no_pace_means_a_bounded_one() -> None:
    stage = Stage()
    stage.values.set_many({"mode": "text_to_image", "output_fps": 0})
    stage.play(1.0)
    assert 230 <= len(stage.stream.steps) <= 241


def test_dreaming_starts_when_the_input_stays_away_and_ends_when_it_comes_back() -> None:
    stage = Stage([0.04 * n for n in range(1, 26)] + [3.0 + 0.04 * n for n in range(25)])
    stage.values.set_many({"without_input": "dream", "output_fps": 25})
    stage.play(4.0)
    first_dream = next(moment for moment, index, _ in stage.stream.steps if index is None)
    assert first_dream == pytest.approx(101.25, abs=0.051)
    dreams = [moment for moment, index, _ in stage.stream.steps if index is None]
    assert dreams[-1] < 103.0
    assert len(dreams) == pytest.approx(1.75 * 25, abs=2)
    assert [index for _, index, _ in stage.stream.steps if index is not None] == list(range(50))


def test_a_slow_pace_does_not_keep_a_change_of_mode_waiting() -> None:
    stage = Stage([20.0])
    stage.values.set_many({"mode": "text_to_image", "output_fps": 0.01})
    stage.play(2.0)
    stage.values.set("reset", None)
    stage.play(0.1)
    assert stage.stream.resets == 1


def test_reset_reaches_the_stream_at_once_and_other_steps_see_each_trigger_once() -> None:
    stage = Stage([0.5, 0.6, 0.7])
    stage.values.set("reset", None)
    stage.play(1.0)
    assert stage.stream.resets == 1
    assert [fired for _, _, fired in stage.stream.steps] == [frozenset({"reset"}), frozenset(), frozenset()]
    stage.values.set("reset", None)
    stage.play(0.2)
    assert stage.stream.resets == 2


def test_a_failed_step_is_told_the_stream_reset_and_the_next_frame_taken() -> None:
    stage = Stage([0.04 * n for n in range(1, 200)])
    stage.stream.failures = {5: RuntimeError("the numbers were odd\nand more"), 9: RuntimeError("again")}
    stage.play(2.0)
    told = [report.error for report in stage.reports]
    assert "a fault of this program in the engine, RuntimeError: the numbers were odd" in told
    assert stage.stream.resets == 2
    assert [index for _, index, _ in stage.stream.steps][:12] == list(range(12))
    assert stage.reports[-1].error.endswith("again")
    stage.play(5.0)
    assert stage.reports[-1].error == ""


def test_a_picture_on_its_way_is_shown_as_it_comes_and_not_with_the_next_input() -> None:
    stage = Stage([0.1, 0.9])
    stage.stream.late = [picture(77, 100.2)]  # "captured" when it comes
    moments: list[float] = []
    stage.show = lambda frame: moments.append(stage.clock.time)  # type: ignore[method-assign]
    stage.play(0.3)
    assert moments == pytest.approx([100.2], abs=0.003)


def test_what_moves_by_itself_gets_the_time_of_the_run() -> None:
    stage = Stage([0.1 * n for n in range(1, 20)])
    stage.play(2.0)
    steps = np.diff(stage.stream.seconds)
    assert len(steps) > 10 and np.allclose(steps, 0.1, atol=1e-6)


def test_a_problem_beside_the_picture_is_told_and_forgotten_in_time() -> None:
    stage = Stage([0.04 * n for n in range(1, 300)])
    stage.stream.told = ["the prompt is too long"]
    stage.play(2.0)
    assert stage.reports[-1].error == "the prompt is too long"
    assert stage.stream.resets == 0
    stage.play(6.0)
    assert stage.reports[-1].error == ""


def test_problems_that_come_together_are_told_together() -> None:
    stage = Stage([0.04 * n for n in range(1, 50)])
    stage.stream.told = ["the prompt is too long", "the knob does nothing", "the prompt is too long"]
    stage.play(1.0)
    assert stage.reports[-1].error == "the prompt is too long; the knob does nothing"


def test_the_third_failure_in_a_row_is_raised_after_it_was_told() -> None:
    stage = Stage([0.04 * n for n in range(1, 200)])
    stage.stream.failures = {step: RuntimeError(f"failure {step}") for step in (3, 10, 11, 12)}
    with pytest.raises(RuntimeError, match="failure 12"):
        stage.play(7.0)
    assert stage.reports[-1].error.endswith("failure 12")
    assert len(stage.stream.steps) == 13


def test_what_cannot_be_had_is_told_and_never_ends_the_engine() -> None:
    stage = Stage([0.04 * n for n in range(1, 60)])
    stage.stream.failures = {n: FrameTooLarge("a frame of 9 MB does not fit") for n in range(5, 30)}
    stage.play(3.0)
    assert "a frame of 9 MB does not fit" in [report.error for report in stage.reports]
    assert len(stage.stream.steps) > 55 and stage.stream.resets == 0


def test_a_failing_sink_is_borne_like_a_failing_step() -> None:
    stage = Stage([0.04 * n for n in range(1, 10)])
    shown: list[int] = []

    def show(frame: Frame) -> None:
        if frame.index == 2:
            raise ValueError("no")
        shown.append(frame.index)

    stage.show = show  # type: ignore[method-assign]
    stage.play(1.0)
    assert shown == [0, 1, 5, 6, 7, 8]  # 3 and 4 were in flight when it failed


def test_memory_full_is_said_in_words_that_help() -> None:
    class OutOfMemoryError(RuntimeError):
        pass

    assert "smaller width and height" in plain_words(OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert plain_words(SettingsError("no such model")) == "no such model"
    assert plain_words(ZeroDivisionError()) == "a fault of this program in the engine, ZeroDivisionError: no message"


def test_smoothing_follows_the_time_between_turns_not_their_number() -> None:
    stage = Stage([0.5])
    stage.values.set("strength", 0.0)
    stage.values.jump()
    stage.values.set("strength", 1.0)
    seen: list[float] = []
    step = stage.stream.step
    stage.stream.step = lambda frame, values: (seen.append(values.number("strength")), step(frame, values))[1]  # type: ignore[method-assign]
    stage.play(0.6)
    assert seen == [pytest.approx(1 - 2.718281828 ** (-0.5 / 0.05), abs=1e-6)]


@pytest.mark.parametrize(("distance", "count"), [(1 / 60, 600), (0.04, 100), (2.5, 5)])
def test_rate_is_one_over_the_distance(distance: float, count: int) -> None:
    rate = Rate()
    for n in range(count):
        rate.count(n * distance)
    assert rate.at((count - 1) * distance) == pytest.approx(1 / distance, rel=1e-9)
    assert rate.at((count - 1) * distance + max(1.01, 3.01 * distance)) == 0.0


def test_rate_of_nothing_is_nothing() -> None:
    assert Rate().at(5.0) == 0.0
