"""The tick schedule against arithmetic, and the real clock against the system's."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.clock import TickSchedule
from engine.clock import MonotonicClock


def taken(schedule: TickSchedule, now: float, rate: float) -> float:
    due = schedule.due(now, rate)
    schedule.take(due)
    return due


@pytest.mark.parametrize("rate", [1.0, 24.0, 29.97, 30.0, 59.94, 60.0, 120.0, 240.0])
def test_tick_k_is_due_at_start_plus_k_over_rate_without_drift_over_an_hour(rate: float) -> None:
    schedule, start, now = TickSchedule(), 1234.5, 1234.5
    ticks = int(rate * 3600) if rate <= 60.0 else int(rate * 60)
    for k in range(ticks):
        now = taken(schedule, now, rate)
        if k % 997 == 0:
            assert now == pytest.approx(float(Fraction(start) + Fraction(k) / Fraction(rate)), abs=1e-8)
    assert schedule.late == 0


def test_the_first_tick_is_due_at_once() -> None:
    assert TickSchedule().due(7.0, 30.0) == 7.0


def test_asking_twice_does_not_lose_a_tick() -> None:
    schedule = TickSchedule()
    taken(schedule, 0.0, 10.0)
    assert schedule.due(0.01, 10.0) == schedule.due(0.02, 10.0) == pytest.approx(0.1)


def test_ticks_that_passed_are_skipped_and_counted_and_the_grid_stays() -> None:
    schedule = TickSchedule()
    taken(schedule, 0.0, 10.0)
    assert taken(schedule, 0.35, 10.0) == pytest.approx(0.4)  # 0.1, 0.2 and 0.3 have passed
    assert schedule.late == 3
    assert taken(schedule, 0.4, 10.0) == pytest.approx(0.5)
    assert schedule.late == 3


@given(
    rate=st.floats(0.5, 240.0),
    delays=st.lists(st.floats(0.0, 0.5), min_size=2, max_size=60),
)
def test_whatever_the_delays_ticks_lie_on_the_grid_never_before_now_and_never_twice(
    rate: float, delays: list[float]
) -> None:
    schedule, now, moments = TickSchedule(), 100.0, []
    for delay in delays:
        due = taken(schedule, now, rate)
        assert due >= now - 2e-6
        moments.append(due)
        now = max(now, due) + delay
    places = [(moment - 100.0) * rate for moment in moments]
    assert all(abs(place - round(place)) < 1e-3 for place in places)
    assert all(after - before > 0.5 for before, after in zip(places, places[1:], strict=False))
    assert schedule.late == round(places[-1]) - (len(places) - 1)


def test_a_new_rate_counts_from_the_last_tick() -> None:
    schedule = TickSchedule()
    for _ in range(3):
        now = taken(schedule, 0.0, 10.0)
    assert now == pytest.approx(0.2)
    assert schedule.due(0.21, 50.0) == pytest.approx(0.22)


def test_a_new_rate_after_a_long_rest_begins_at_once_and_counts_nothing_as_late() -> None:
    schedule = TickSchedule()
    taken(schedule, 0.0, 10.0)
    assert taken(schedule, 9.0, 25.0) == 9.0
    assert schedule.late == 0


def test_the_clock_is_the_one_frames_are_stamped_with_and_sleeps_until_the_moment() -> None:
    clock = MonotonicClock()
    before = time.monotonic()
    clock.sleep_until(before + 0.03)
    assert before + 0.03 <= clock.now() <= time.monotonic()
    clock.sleep_until(before)  # has passed: returns
