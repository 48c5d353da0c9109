"""Latency figures against numpy's percentiles."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.latency import LatencyRecord, Percentiles

SHARES = (50, 95, 99)


def figures(percentiles: Percentiles) -> list[float]:
    return [percentiles.p50, percentiles.p95, percentiles.p99]


@pytest.mark.parametrize("count", [1, 2, 3, 100, 240])
def test_the_window_gives_numpys_percentiles(count: int) -> None:
    samples = np.random.default_rng(count).gamma(2.0, 20.0, count) + 1.0
    record = LatencyRecord(window=240)
    for sample in samples:
        record.add(float(sample))
    assert figures(record.recent()) == pytest.approx(list(np.percentile(samples, SHARES)), rel=1e-9)


def test_the_window_forgets() -> None:
    record = LatencyRecord(window=10)
    for sample in [500.0] * 50 + [20.0] * 10:
        record.add(sample)
    assert figures(record.recent()) == [20.0] * 3


@pytest.mark.parametrize("scale", [0.5, 30.0, 4000.0])
def test_the_whole_run_is_within_half_a_percent_of_a_sample(scale: float) -> None:
    samples = np.random.default_rng(5).gamma(2.0, scale, 20_000) + 0.05
    record = LatencyRecord(window=4)
    for sample in samples:
        record.add(float(sample))
    expected = np.percentile(samples, SHARES, method="nearest")
    assert figures(record.whole_run()) == pytest.approx(list(expected), rel=0.0051)


def test_memory_does_not_grow_with_the_run() -> None:
    record = LatencyRecord()
    bins = len(record._bins)
    for sample in (1e-9, 0.0, -3.0, 1e30, 17.0) * 1000:
        record.add(sample)
    assert len(record._bins) == bins
    assert record.count == sum(record._bins) == 5000


def test_without_samples_everything_is_zero() -> None:
    assert figures(LatencyRecord().recent()) == figures(LatencyRecord().whole_run()) == [0.0, 0.0, 0.0]
