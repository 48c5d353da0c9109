"""Live values: newest wins, triggers arrive once, smoothing follows time and not frames."""

from __future__ import annotations

import math
import threading

import pytest

from engine.control.live_values import LiveValues, numbers_of, values_of
from engine.control.parameter import BadValue
from engine.control.smoothing import approach
from engine.control.table import NUMBERS


def test_smoothing_has_the_closed_form_and_does_not_depend_on_the_frame_rate() -> None:
    assert approach(0.0, 1.0, 0.3, time_constant=0.1) == pytest.approx(1 - math.exp(-3))
    value = 0.0
    for _ in range(30):
        value = approach(value, 1.0, 0.01, time_constant=0.1)
    assert value == pytest.approx(1 - math.exp(-3))
    assert approach(0.0, 1.0, 0.0, time_constant=0.0) == 1.0


def test_smoothing_ends() -> None:
    value, steps = 0.0, 0
    while value != 1.0:
        value, steps = approach(value, 1.0, 0.1, time_constant=0.1), steps + 1
    assert steps < 20


def test_the_newest_of_many_quick_changes_is_seen_smoothed() -> None:
    values = LiveValues()
    before = values.snapshot(0.0).number("strength")
    for i in range(1000):
        values.set("strength", i / 1000)
    first = values.snapshot(0.02).number("strength")
    assert values.get("strength") == 0.999
    assert before < first < 0.999
    values.jump()
    assert values.snapshot(0.0).number("strength") == 0.999


def test_a_trigger_from_many_threads_arrives_and_is_gone() -> None:
    values = LiveValues()
    seen, done = [], threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.extend(values.snapshot(0.0).fired)

    watcher = threading.Thread(target=look)
    watcher.start()
    for _ in range(50):
        before = len(seen)
        values.set("reset", None)
        while len(seen) == before:
            pass
    done.set()
    watcher.join()
    assert seen == ["reset"] * 50


def test_several_values_are_set_all_or_none() -> None:
    values = LiveValues()
    with pytest.raises(BadValue):
        values.set_many({"strength": 0.1, "steps": "many"})
    assert values.get("strength") != 0.1
    assert values.set_many({"strength": 0.1, "cfg_type": "self"}) == {"strength": 0.1, "guidance": "self"}


def test_readouts_are_the_engines_alone() -> None:
    values = LiveValues()
    with pytest.raises(BadValue, match="readout"):
        values.set("fps", 1)
    values.report({"fps": 12.5})
    assert values.get("fps") == 12.5


def test_changes_name_their_origin_once_and_leave_out_what_did_not_change() -> None:
    values = LiveValues()
    version, _ = values.changes_since(0)
    values.set("seed", 7, origin="a")
    values.set("seed", 8, origin="b")
    values.set("delta", values.get("delta"), origin="c")
    values.set("reset", True, origin="d")
    version, changes = values.changes_since(version)
    assert [(c.name, c.value, c.origin) for c in changes] == [("seed", 8, "b"), ("reset", None, "d")]
    assert values.changes_since(version) == (version, [])


def test_numbers_travel_in_table_order_and_come_back() -> None:
    values = LiveValues()
    values.set_many({"fit": "letterbox", "seed": 123_456_789, "freeze": True, "strength": 0.25})
    sent = numbers_of(values.targets())
    assert len(sent) == len(NUMBERS) and all(isinstance(number, float) for number in sent)
    back = values_of(sent)
    assert back == {row.name: values.get(row.name) for row in NUMBERS}


def test_time_adds_up() -> None:
    values = LiveValues()
    assert [values.snapshot(dt).seconds for dt in (0.5, 0.25, -1.0)] == [0.5, 0.75, 0.75]
