"""What subscribers get, when, and what they never get; bytes against the OSC specification's own example."""

from __future__ import annotations

import pytest

from bridge.osc.addresses import Means, Target
from bridge.osc.encode import encode
from bridge.osc.feedback import LIFETIME_SECONDS, MAX_SUBSCRIBERS, Feedback
from bridge.osc.guard import Message, read_packet
from bridge.osc.receive import Question, Receiver
from engine.control.live_values import LiveValues
from engine.control.parameter import Kind
from engine.control.table import TABLE


class Desk:
    """Live values, feedback and a hand on its clock."""

    def __init__(self, *, open_to_others: bool = False) -> None:
        self.values = LiveValues()
        self.time = 100.0
        self.feedback = Feedback(self.values, open_to_others=open_to_others, now=lambda: self.time)

    def due(self, seconds: float = 0.04) -> list[tuple[Message, int]]:
        """(message, port) of what is due after some time, readouts left out."""
        self.time += seconds
        sent = [(read_packet(raw).messages[0], to[1]) for raw, to in self.feedback.due()]
        return [(message, port) for message, port in sent if "/status/" not in message.address]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_golden_bytes_of_the_specification() -> None:
    assert encode("/oscillator/4/frequency", (440.0,)) == bytes.fromhex(
        "2f6f7363 696c6c61 746f722f 342f6672 65717565 6e637900 2c660000 43dc0000"
    )
    assert encode("/foo", (1000, -1, "hello", 1.234, 5.678)) == bytes.fromhex(
        "2f666f6f 00000000 2c696973 66660000 000003e8 ffffffff 68656c6c 6f000000 3f9df3b6 40b5b22d"
    )
    assert encode("/a", (True, 2**40)) == bytes.fromhex("2f610000 2c696800 00000001 0000010000000000")


def answer(desk: Desk, address: str, target: Target) -> Message:
    return read_packet(desk.feedback.answer(Question(address, target))).messages[0]


def test_answers_at_the_address_of_the_question(desk: Desk) -> None:
    desk.values.set_many({"strength": 0.5, "delta": 0.5, "step_list": (32, 45), "freeze": True})
    desk.values.set("mix", 7)
    assert type(answer(desk, "/mix", Target(Means.VALUE, "mix")).args[0]) is float
    assert answer(desk, "/denoise", Target(Means.VALUE, "strength")) == Message("/denoise", (0.5,))
    assert answer(desk, "/norm/delta", Target(Means.NORMALISED, "delta")) == Message("/norm/delta", (0.25,))
    assert answer(desk, "/t_list", Target(Means.VALUE, "step_list")) == Message("/t_list", (32, 45))
    assert answer(desk, "/freeze", Target(Means.VALUE, "freeze")) == Message("/freeze", (1,))
    assert answer(desk, "/guidance", Target(Means.VALUE, "guidance")) == Message("/guidance", ("none",))


def test_a_newcomer_gets_everything_and_what_he_gets_can_be_sent_back(desk: Desk) -> None:
    desk.values.set_many({"mix": 0.25, "step_list": (32, 45), "prompt": "größer", "freeze": True, "seed": 2**31 - 1})
    welcome = desk.feedback.subscribe("127.0.0.1", 7000, sender_port=5000)
    assert welcome is not None and len(welcome) == sum(row.kind is not Kind.TRIGGER for row in TABLE)
    other = LiveValues()
    receiver = Receiver(other)
    for raw, to in welcome:
        assert to == ("127.0.0.1", 7000)
        receiver.receive(raw, "127.0.0.1", 1)
    for name, value in desk.values.targets().items():
        assert other.get(name) == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value)


def test_changes_go_to_all_but_their_origin(desk: Desk) -> None:
    desk.feedback.subscribe("127.0.0.1", 7000, sender_port=5000)
    desk.feedback.subscribe("127.0.0.1", 7001, sender_port=5001, prefix="/phosphene")
    assert desk.due() == []
    desk.values.set("mix", 0.5, "osc:127.0.0.1:5000")
    assert desk.due() == [(Message("/phosphene/mix", (0.5,)), 7001)]
    desk.values.set("mix", 0.25, "osc:127.0.0.1:7001")
    assert desk.due() == [(Message("/mix", (0.25,)), 7000)]
    desk.values.set("mix", 0.75, "web")
    assert [port for _, port in desk.due()] == [7000, 7001]
    assert desk.due() == []


def test_of_many_changes_the_newest_is_sent_at_most_thirty_times_a_second(desk: Desk) -> None:
    desk.feedback.subscribe("127.0.0.1", 7000, sender_port=5000)
    desk.due()
    sent = []
    for step in range(1, 1001):  # a second in steps of a millisecond
        desk.values.set("seed", step, "web")
        sent += desk.due(0.001)
    assert 28 <= len(sent) <= 31
    assert [message.args[0] for message, _ in sent] == sorted({message.args[0] for message, _ in sent})


def test_triggers_are_not_sent(desk: Desk) -> None:
    desk.feedback.subscribe("127.0.0.1", 7000, sender_port=5000)
    desk.values.set("reset", None, "web")
    assert desk.due() == []


def test_readouts_go_out_five_times_a_second(desk: Desk) -> None:
    desk.feedback.subscribe("127.0.0.1", 7000, sender_port=5000)
    desk.values.report({"fps": 25.0})
    seen = []
    for _ in range(250):
        desk.time += 0.004
        seen += [read_packet(raw).messages[0] for raw, _ in desk.feedback.due()]
    fps = [message for message in seen if message.address == "/status/fps"]
    assert 4 <= len(fps) <= 6 and fps[-1].args == (25.0,)
    assert {message.address for message in seen} == {f"/status/{row.name}" for row in TABLE if row.read_only}


def test_a_silent_subscriber_is_forgotten_one_who_speaks_is_not(desk: Desk) -> None:
    desk.feedback.subscribe("127.0.0.1", 7000, sender_port=5000)
    desk.feedback.subscribe("127.0.0.1", 7001, sender_port=5001)
    desk.time += LIFETIME_SECONDS - 1
    desk.feedback.heard("127.0.0.1", 5001)
    desk.time += 2
    desk.feedback.due()
    assert desk.feedback.subscribers == 1
    desk.values.set("mix", 0.5, "web")
    assert [port for _, port in desk.due()] == [7001]
    desk.feedback.unsubscribe("127.0.0.1", 7001)
    assert desk.feedback.subscribers == 0 and desk.due() == []


def test_places_are_bounded_and_renewing_needs_none(desk: Desk) -> None:
    for number in range(MAX_SUBSCRIBERS):
        assert desk.feedback.subscribe("127.0.0.1", 7000 + number, sender_port=1) is not None
    assert desk.feedback.subscribe("127.0.0.1", 8000, sender_port=1) is None
    assert desk.feedback.subscribe("127.0.0.1", 7003, sender_port=1) is not None
    assert desk.feedback.subscribers == MAX_SUBSCRIBERS


@pytest.mark.parametrize(
    ("host", "open_to_others", "taken"),
    [("127.0.0.1", False, True), ("::1", False, True), ("192.168.1.7", False, False), ("192.168.1.7", True, True)],
)
def test_other_machines_only_when_the_port_is_open_to_them(host: str, open_to_others: bool, taken: bool) -> None:
    assert (Desk(open_to_others=open_to_others).feedback.subscribe(host, 7000, sender_port=1) is not None) is taken
