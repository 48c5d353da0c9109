"""Misses, latency, jitter and time to first frame, worked by hand."""

import pytest

from engine.video.slo_report import REMEMBERED, PunctualityMeter


def test_a_stream_of_three_chunks_worked_by_hand() -> None:
    meter = PunctualityMeter(started_at=10.0)
    meter.finished((10.0, 10.1), 10.5, 0.45)  # latencies 0.5 and 0.4
    meter.finished((10.2, 10.3), 10.6, 0.45)  # 0.4 and 0.3
    meter.finished((10.4, 10.5), 11.1, 0.45)  # 0.7 and 0.6
    meter.dropped(3)
    report = meter.report()
    assert (report.frames, report.missed, report.dropped) == (6, 3, 3)
    assert report.first_frame == pytest.approx(0.5) and report.missed_share == pytest.approx(0.5)
    assert report.latency_p50 == pytest.approx(0.5)
    assert report.jitter == pytest.approx((0.1 + 0.3) / 2)


def test_the_first_frame_counts_from_the_first_capture_that_came_after_the_start() -> None:
    for captured, expected in ((7.0, 2.0), (3.0, 4.0)):  # started at 5, shown at 9
        meter = PunctualityMeter(started_at=5.0)
        meter.began(captured)
        meter.began(8.0)
        meter.finished((captured,), 9.0, 10.0)
        assert meter.report().first_frame == expected


def test_nothing_finished_yet() -> None:
    meter = PunctualityMeter(started_at=0.0)
    meter.finished((), 1.0, 0.1)
    report = meter.report()
    assert report.first_frame is None and report.missed_share == 0 and report.latency_p95 == 0 and report.jitter == 0


def test_percentiles_speak_of_the_last_chunks_and_counts_of_all() -> None:
    meter = PunctualityMeter(started_at=0.0)
    for count in range(3 * REMEMBERED):
        meter.finished((float(count),), count + (9.0 if count < REMEMBERED else 0.25), 1.0)
    report = meter.report()
    assert report.latency_p95 == 0.25 and report.jitter == 0 and report.missed == REMEMBERED and report.frames == 3 * REMEMBERED
