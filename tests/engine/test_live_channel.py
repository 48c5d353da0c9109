"""The parameter channel: both ends in one process, threads hammering one side, and what must never be seen on the other."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator

import pytest

from engine.control.live_values import LiveValues, Snapshot
from engine.control.table import TABLE
from engine.live_channel import BridgeEnd, EngineEnd


@pytest.fixture
def ends() -> Iterator[tuple[BridgeEnd, EngineEnd]]:
    bridge = BridgeEnd()
    yield bridge, EngineEnd(bridge.handle)
    bridge.close()


@pytest.fixture
def restored_switching() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


def test_every_parameter_of_the_table_crosses(ends: tuple[BridgeEnd, EngineEnd]) -> None:
    bridge, engine = ends
    wanted = LiveValues()
    for row in TABLE:
        if row.read_only or row.kind.value == "trigger":
            continue
        match row.kind.value:
            case "choice":
                wanted.set(row.name, row.choices[-1])
            case "text":
                wanted.set(row.name, f"grüße an {row.name} 🌊")
            case "toggle":
                wanted.set(row.name, not row.default)
            case "list":
                wanted.set(row.name, [1, 2, 3])
            case _:
                low, high = row.range or (0, 0)
                wanted.set(row.name, low + 0.375 * (high - low))
    bridge.send(wanted.targets())
    assert engine.wait_for_values(10.0)
    arrived = engine.snapshot(0.0)
    for name, value in wanted.targets().items():
        assert arrived.values[name] == value, name


def test_numbers_are_smoothed_at_the_engines_frame_border(ends: tuple[BridgeEnd, EngineEnd]) -> None:
    bridge, engine = ends
    bridge.send(LiveValues().targets() | {"strength": 0.0})
    assert engine.wait_for_values(10.0)
    assert engine.snapshot(0.0).number("strength") == 0.0
    bridge.send({"strength": 1.0})
    # time constant 0.05 s: after one of them 1 - 1/e of the way
    assert engine.snapshot(0.05).number("strength") == pytest.approx(1 - 1 / 2.718281828, abs=1e-6)


def test_a_preset_of_texts_and_numbers_lands_in_one_snapshot(ends: tuple[BridgeEnd, EngineEnd], restored_switching: None) -> None:
    sys.setswitchinterval(1e-5)  # the threads meet in the middle of everything
    bridge, engine = ends
    bridge.send(LiveValues().targets())
    assert engine.wait_for_values(10.0)
    count, ended, more = 1500, threading.Event(), threading.Semaphore(1)

    def send() -> None:
        for number in range(1, count + 1):
            bridge.send({"seed": number, "prompt": f"prompt {number}", "similarity_max_skip": number % 10_001})
            bridge.send({"prompt_fade": 1.0})  # numbers alone, in between
            if number % 3 == 0:
                more.acquire(timeout=30)
        ended.set()

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    seen: set[int] = set()
    until = time.monotonic() + 60
    while time.monotonic() < until:
        last_round = ended.is_set()
        values = engine.snapshot(0.0)
        seed = values.whole("seed")
        if seed > 2 or values.text("prompt").startswith("prompt "):
            assert values.text("prompt") == f"prompt {seed}"
            assert values.whole("similarity_max_skip") == seed
        if seed not in seen:
            seen.add(seed)
            more.release()
        if last_round:
            break
    sender.join()
    assert count in seen and len(seen) > 100


def test_what_is_being_written_is_not_seen_at_any_point_of_it(ends: tuple[BridgeEnd, EngineEnd]) -> None:
    bridge, engine = ends
    bridge.send(LiveValues().targets() | {"seed": 1, "prompt": "old"})
    assert engine.wait_for_values(10.0)
    words, seen = bridge._words, []

    class Watched:
        """The block's words; before each store the engine looks."""

        def __getitem__(self, place: int) -> int:
            return words[place]

        def __setitem__(self, place: int, value: int) -> None:
            snapshot = engine.snapshot(0.0)
            seen.append((snapshot.whole("seed"), snapshot.text("prompt")))
            words[place] = value

    bridge._words = Watched()  # type: ignore[assignment]
    bridge.send({"seed": 2, "prompt": "new"})
    bridge._words = words
    assert seen == [(1, "old")] * 3
    assert (engine.snapshot(0.0).whole("seed"), engine.snapshot(0.0).text("prompt")) == (2, "new")


def test_triggers_fired_by_four_threads_arrive_exactly_once_each(ends: tuple[BridgeEnd, EngineEnd]) -> None:
    bridge, engine = ends
    bridge.send(LiveValues().targets())
    assert engine.wait_for_values(10.0)
    turn, seen, each = threading.Lock(), threading.Event(), 100
    ended = threading.Semaphore(0)

    def fire() -> None:
        for _ in range(each):
            with turn:  # the next one is fired when this one was seen, else two may rightly share a snapshot
                seen.clear()
                bridge.send({}, ["reset"])
                assert seen.wait(30.0)
        ended.release()

    for _ in range(4):
        threading.Thread(target=fire, daemon=True).start()
    arrivals, until = 0, time.monotonic() + 60
    while time.monotonic() < until:
        if "reset" in engine.snapshot(0.0).fired:
            arrivals += 1
            assert "reset" not in engine.snapshot(0.0).fired
            if arrivals == 4 * each:
                seen.set()
                break
            seen.set()
    assert all(ended.acquire(timeout=30) for _ in range(4))
    assert arrivals == 4 * each
    assert not engine.snapshot(0.0).fired


def test_an_engine_that_reads_late_gets_the_newest_values_and_every_trigger(ends: tuple[BridgeEnd, EngineEnd]) -> None:
    bridge, engine = ends
    bridge.send(LiveValues().targets())
    for number in range(100):
        bridge.send({"prompt": f"prompt {number}", "seed": number}, ["reset"] if number == 50 else [])
    assert engine.wait_for_values(10.0)
    values = engine.snapshot(0.0)
    assert (values.text("prompt"), values.whole("seed")) == ("prompt 99", 99)
    assert values.fired == {"reset"}


def test_readouts_never_wait_for_a_bridge_that_does_not_read(ends: tuple[BridgeEnd, EngineEnd]) -> None:
    bridge, engine = ends
    engine.tell({"state": "loading"})
    for number in range(50_000):  # many times what a pipe holds
        engine.tell_newest({"report": number, "padding": "x" * 100})
    engine.tell({"failed": "last words"})
    messages = []
    until = time.monotonic() + 30
    while {"failed": "last words"} not in messages and time.monotonic() < until:
        messages += bridge.receive()
    engine.finish(10.0)
    messages += bridge.receive()
    assert messages[0] == {"state": "loading"}
    assert {"failed": "last words"} in messages
    numbers = [message["report"] for message in messages if "report" in message]
    assert numbers == sorted(numbers) and numbers[-1] == 49_999 and len(numbers) < 50_000


def test_a_bridge_end_says_when_the_engine_is_gone() -> None:
    bridge = BridgeEnd()
    bridge.started()  # nobody has the other ends now
    with pytest.raises(EOFError):
        bridge.receive()
    with pytest.raises(OSError):
        bridge.send({"prompt": "unheard"})
    bridge.close()


def test_stop_is_seen(ends: tuple[BridgeEnd, EngineEnd]) -> None:
    bridge, engine = ends
    assert not engine.stopped
    bridge.stop()
    assert engine.stopped


def test_no_values_in_time_is_told(ends: tuple[BridgeEnd, EngineEnd]) -> None:
    assert ends[1].wait_for_values(0.0) is False


def test_readouts_do_not_travel_to_the_engine(ends: tuple[BridgeEnd, EngineEnd]) -> None:
    bridge, engine = ends
    there = LiveValues()
    there.report({"state": "running", "fps": 50.0, "error": "something"})
    bridge.send(there.targets())
    assert engine.wait_for_values(10.0)
    snapshot: Snapshot = engine.snapshot(0.0)
    assert (snapshot.text("state"), snapshot.text("error"), snapshot.number("fps")) == ("starting", "", 0.0)
