"""The beat of a source and the end of its thread."""

import threading

import pytest

from bridge.sources.own_thread import OwnThread, SourceError, next_beat


def test_a_beat_in_time_is_followed_by_the_next() -> None:
    assert next_beat(10.0, 0.5, 10.0) == pytest.approx(10.5)
    assert next_beat(10.0, 0.5, 10.4) == pytest.approx(10.5)


@pytest.mark.parametrize(("now", "expected"), [(10.6, 11.0), (12.7, 13.0), (11.0, 11.5)])
def test_missed_beats_are_left_out_and_the_grid_stays(now: float, expected: float) -> None:
    assert next_beat(10.0, 0.5, now) == pytest.approx(expected)


def test_lateness_does_not_add_up() -> None:
    due = 0.0
    for _ in range(1000):
        due = next_beat(due, 0.04, due + 0.039)
    assert due == pytest.approx(40.0)


def test_a_thread_that_does_not_end_is_left_after_the_bound() -> None:
    release = threading.Event()
    thread = OwnThread("stubborn", lambda stopping: release.wait(30) and None)
    thread.start()
    assert thread.stop(timeout_seconds=0.05) is False
    release.set()
    assert thread.stop(timeout_seconds=10.0) is True


def test_a_source_error_is_kept_as_it_is(poll) -> None:  # type: ignore[no-untyped-def]
    def body(stopping: threading.Event) -> None:
        raise SourceError("the disk is gone")

    thread = OwnThread("gone", body)
    thread.start()
    poll(lambda: not thread.running)
    assert thread.error == "the disk is gone"
