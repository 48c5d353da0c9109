"""The feed of values to the engine, against a real channel."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from bridge.value_feed import ValueFeed
from engine.control.live_values import LiveValues
from engine.live_channel import BridgeEnd, EngineEnd


@pytest.fixture
def values() -> LiveValues:
    return LiveValues()


@pytest.fixture
def feed(values: LiveValues) -> Iterator[ValueFeed]:
    made = ValueFeed(values)
    made.start()
    yield made
    made.stop()


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.001)


def test_a_new_engine_gets_everything_and_then_each_change(feed: ValueFeed, values: LiveValues) -> None:
    values.set_many({"prompt": "before", "seed": 7})
    for round_ in range(2):  # the second is a restart
        channel = BridgeEnd()
        feed.serve(channel)
        engine = EngineEnd(channel.handle)
        assert engine.wait_for_values(30.0)
        assert (engine.snapshot(0.0).text("prompt"), engine.snapshot(0.0).whole("seed")) == ("before", 7 + round_)
        values.set("seed", 8)
        until(lambda end=engine: end.snapshot(0.0).whole("seed") == 8)  # type: ignore[misc]
        feed.leave(channel)


def test_each_trigger_goes_to_one_engine_once(feed: ValueFeed, values: LiveValues) -> None:
    channel = BridgeEnd()
    feed.serve(channel)
    engine = EngineEnd(channel.handle)
    assert engine.wait_for_values(30.0)
    arrivals = 0
    lock = threading.Lock()

    def count() -> bool:
        nonlocal arrivals
        arrivals += "reset" in engine.snapshot(0.0).fired
        return arrivals == fired

    fired = 0
    for _ in range(100):
        with lock:
            values.set("reset", None)
            fired += 1
        until(count)
    values.set("seed", 99)
    until(lambda: "reset" not in (snapshot := engine.snapshot(0.0)).fired and snapshot.whole("seed") == 99)
    feed.leave(channel)
    values.set("reset", None)  # nobody there: it waits
    channel = BridgeEnd()
    feed.serve(channel)
    engine = EngineEnd(channel.handle)
    assert engine.wait_for_values(30.0)
    assert engine.peek().fired == {"reset"}  # a look takes nothing
    assert engine.snapshot(0.0).fired == {"reset"}
    assert engine.snapshot(0.0).fired == frozenset()
    feed.leave(channel)


def test_an_engine_that_never_reads_blocks_nobody_but_the_feed(feed: ValueFeed, values: LiveValues) -> None:
    channel = BridgeEnd()
    feed.serve(channel)
    for number in range(300):  # each more than the pipe holds in sum
        values.set("prompt", f"{number} " + "x" * 5000)
        time.sleep(0)
    engine = EngineEnd(channel.handle)
    assert engine.wait_for_values(30.0)
    until(lambda: engine.snapshot(0.0).text("prompt").startswith("299 "))
    feed.leave(channel)
