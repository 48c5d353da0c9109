"""The comparison of two runtimes against durations whose answer is known."""

from __future__ import annotations

import pytest

from engine.runtimes.comparison import COUNTED, LEAST, Comparison

FIRST, SECOND = ("encoder", ((1, 3, 8, 8),)), ("decoder", ((1, 4, 1, 1),))


def filled(torch_seconds: list[float], other_seconds: list[float]) -> Comparison:
    comparison = Comparison([FIRST])
    for seconds in torch_seconds:
        comparison.count(FIRST, seconds)
    comparison.switched = True
    for seconds in other_seconds:
        comparison.count(FIRST, seconds)
    return comparison


def test_the_ratio_is_that_of_the_sums_over_the_parts() -> None:
    comparison = Comparison([FIRST, SECOND])
    for switched, first, second in ((False, 1.0, 3.0), (True, 2.0, 4.0)):
        comparison.switched = switched
        for _ in range(COUNTED):
            comparison.count(FIRST, first)
            comparison.count(SECOND, second)
    assert comparison.ratio() == pytest.approx(6.0 / 4.0)
    comparison.forget(SECOND)
    assert comparison.ratio() == pytest.approx(2.0) and comparison.keys == (FIRST,)


def test_calls_that_something_else_made_longer_do_not_count() -> None:
    disturbed = [1.0] * 10 + [50.0] * 20
    assert filled(disturbed, [0.5] * 30).ratio() == pytest.approx(0.5)
    assert filled([1.0] * 30, [2.0 * seconds for seconds in disturbed]).ratio() == pytest.approx(2.0)


def test_what_comes_too_rarely_is_not_compared() -> None:
    assert filled([1.0] * COUNTED, [9.0] * (LEAST - 1)).ratio() == 1.0
    assert filled([1.0] * COUNTED, [9.0] * LEAST).ratio() == pytest.approx(9.0)


def test_each_runtime_is_counted_for_itself() -> None:
    comparison = Comparison([FIRST, SECOND])
    for call in range(COUNTED):
        assert not comparison.counted, call
        comparison.count(FIRST, 1.0)
    assert comparison.counted
    comparison.switched = True
    assert not comparison.counted
