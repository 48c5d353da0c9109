"""Timecodes against their definition, frame rates against the table every video engineer knows."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.ndi.timecode import (
    LAST_TIMECODE,
    TimecodeScale,
    exact_rate,
    rate_pair,
    seconds_from_ticks,
    ticks_from_seconds,
)


def test_a_tick_is_100_ns():
    assert ticks_from_seconds(1.0) == 10_000_000
    assert ticks_from_seconds(0.1234567) == 1_234_567
    assert seconds_from_ticks(36_000_000_000) == 3600.0


@given(st.floats(0, 1e7), st.floats(0, 4e9))
def test_there_and_back_within_half_a_tick(captured_at, unix):
    scale = TimecodeScale.from_clocks(monotonic_seconds=captured_at / 2, unix_seconds=unix + 1e7)
    assert abs(scale.captured_at(scale.timecode(captured_at)) - captured_at) < 0.6e-7


def test_a_timecode_is_utc_of_the_capture():
    scale = TimecodeScale.from_clocks(monotonic_seconds=100.0, unix_seconds=1_700_000_000.0)
    assert scale.timecode(100.5) == 17_000_000_005_000_000


@given(st.floats(-1e12, 1e12), st.integers(-(2**63), 2**63))
def test_a_timecode_is_always_one_the_library_takes_as_given(captured_at, offset):
    assert 0 <= TimecodeScale(offset_ticks=offset).timecode(captured_at) <= LAST_TIMECODE < 2**63 - 1


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        (23.976, Fraction(24000, 1001)),
        (29.97, Fraction(30000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (119.88, Fraction(120000, 1001)),
        (24, Fraction(24)),
        (25.0, Fraction(25)),
        (30, Fraction(30)),
        (60.0, Fraction(60)),
        (12.5, Fraction(25, 2)),
        (1, Fraction(1)),
        (0.5, Fraction(1, 2)),
        (Fraction(60000, 1001), Fraction(60000, 1001)),
    ],
)
def test_rates(told, meant):
    assert exact_rate(told) == meant
    assert Fraction(*rate_pair(exact_rate(told))) == meant


@given(st.floats(0.1, 1000))
def test_every_rate_is_told_nearly_as_it_is(rate):
    numerator, denominator = rate_pair(exact_rate(rate))
    assert abs(numerator / denominator - rate) < 0.0051
    assert 0 < numerator < 2**31 and 0 < denominator < 2**31


@pytest.mark.parametrize("rate", [0, -30, 0.01, 5000, float("nan"), float("inf")])
def test_rates_that_are_none(rate):
    with pytest.raises(ValueError):
        exact_rate(rate)
