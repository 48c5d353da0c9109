"""Datagrams, built by python-osc, to live values."""

from __future__ import annotations

import json
import logging

import pytest
from pythonosc.osc_bundle_builder import OscBundleBuilder
from pythonosc.osc_message_builder import build_msg

from bridge.osc.addresses import Means, Target
from bridge.osc.receive import Question, Receiver, StatusQuestion, Subscription
from engine.control.live_values import LiveValues
from engine.control.table import TABLE


class Desk:
    """Live values, a receiver and a hand on its clock."""

    def __init__(self) -> None:
        self.values = LiveValues()
        self.time = 0.0
        self.receiver = Receiver(self.values, now=lambda: self.time)

    def send(self, address: str, *args: object) -> list[object]:
        return list(self.receiver.receive(build_msg(address, list(args)).dgram, "127.0.0.1", 5000))


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.mark.parametrize(
    ("address", "args", "name", "value"),
    [
        ("/strength", (0.5,), "strength", 0.5),
        ("/diffusion/strength", (1,), "strength", 1.0),
        ("/phosphene/strength", (False,), "strength", 0.0),
        ("/denoise", (0.25,), "strength", 0.25),
        ("/strength", (7.0,), "strength", 1.0),
        ("/strength", ([0.5],), "strength", 0.5),
        ("/steps", (2.6,), "steps", 3),
        ("/seed", (2**40,), "seed", 2**31 - 1),
        ("/freeze", (1.0,), "freeze", True),
        ("/freeze", (True,), "freeze", True),
        ("/prompt", ("a red fox",), "prompt", "a red fox"),
        ("/prompt", ("a", "red", "fox"), "prompt", "a red fox"),
        ("/guidance", ("self",), "guidance", "self"),
        ("/guidance", (3,), "guidance", "full"),
        ("/cfg_type", ("initialize",), "guidance", "onetime"),
        ("/sdmode", ("txt2img",), "mode", "text_to_image"),
        ("/t_list", (32, 45.0), "step_list", (32, 45)),
        ("/t_list", ([32, 45],), "step_list", (32, 45)),
        ("/step_list", ("32,45",), "step_list", (32, 45)),
        ("/norm/seed", (1.0,), "seed", 2**31 - 1),
        ("/norm/delta", (0.25,), "delta", 0.5),
        ("/norm/fallback_after", (0.0,), "fallback_after", 0.1),
        ("/norm/guidance", (0.34,), "guidance", "self"),
        ("/phosphene/norm/delta", (0.75,), "delta", 1.5),
        ("/pause", (), "freeze", True),
        ("/{strength,mix}", (0.125,), "mix", 0.125),
    ],
)  # fmt: skip
def test_what_a_message_sets(desk: Desk, address: str, args: tuple[object, ...], name: str, value: object) -> None:
    desk.send(address, *args)
    assert desk.values.get(name) == value
    assert isinstance(value, float) or type(desk.values.get(name)) is type(value)
    assert desk.receiver.refused == {}


@pytest.mark.parametrize(
    ("args", "fired"),
    [((), True), ((1,), True), ((1.0,), True), ((True,), True), (("bang",), True), ((0,), False), ((0.0,), False),
     ((False,), False), ((None,), False), (("0",), False), ((float("nan"),), False)],
)  # fmt: skip
def test_a_trigger_fires_on_nothing_or_something_true(desk: Desk, args: tuple[object, ...], fired: bool) -> None:
    desk.send("/reset", *args)
    assert ("reset" in desk.values.snapshot(0.0).fired) is fired


def test_an_impulse_fires_a_trigger(desk: Desk) -> None:
    desk.receiver.receive(b"/reset\0\0,I\0\0", "127.0.0.1", 5000)
    assert "reset" in desk.values.snapshot(0.0).fired


@pytest.mark.parametrize(
    ("address", "args", "reason"),
    [
        ("/strength", (float("nan"),), "bad value"),
        ("/strength", (float("inf"),), "bad value"),
        ("/strength", ("much",), "bad value"),
        ("/strength", (None,), "bad value"),
        ("/strength", (), "bad value"),
        ("/strength", (0.1, 0.2), "bad value"),
        ("/guidance", ("perhaps",), "bad value"),
        ("/t_list", tuple(range(9)), "bad value"),
        ("/fps", (3.0,), "bad value"),
        ("/norm/strength", ("half",), "bad value"),
        ("/norm/strength", (float("nan"),), "bad value"),
        ("/strenght", (0.5,), "unknown address"),
        ("/norm/prompt", (0.5,), "unknown address"),
        ("/nothing/*", (0.5,), "unknown address"),
        ("/subscribe", ("here",), "bad value"),
        ("/subscribe", (0,), "bad value"),
    ],
)
def test_what_is_refused_changes_nothing(desk: Desk, address: str, args: tuple[object, ...], reason: str) -> None:
    before = desk.values.targets()
    assert desk.send(address, *args) == []
    assert desk.values.targets() == before
    assert desk.receiver.refused == {reason: 1}


def test_one_bad_value_does_not_stop_the_bundle(desk: Desk) -> None:
    builder = OscBundleBuilder(1_900_000_000)
    for address, value in (("/mix", 0.25), ("/strength", "much"), ("/nowhere", 1), ("/delta", 0.5)):
        builder.add_content(build_msg(address, [value]))
    desk.receiver.receive(builder.build().dgram, "127.0.0.1", 5000)
    assert (desk.values.get("mix"), desk.values.get("delta")) == (0.25, 0.5)
    assert desk.receiver.refused == {"bad value": 1, "unknown address": 1}
    assert (desk.receiver.packets, desk.receiver.messages) == (1, 4)


def test_questions_and_commands_come_back_as_requests(desk: Desk) -> None:
    assert desk.send("/denoise", "?") == [Question("/denoise", Target(Means.VALUE, "strength"))]
    assert desk.send("/norm/delta", "?") == [Question("/norm/delta", Target(Means.NORMALISED, "delta"))]
    assert desk.send("/prompt", "?") == [Question("/prompt", Target(Means.VALUE, "prompt"))]
    assert desk.send("/subscribe") == [Subscription(wanted=True, port=None, prefix="")]
    assert desk.send("/phosphene/subscribe", 9001.0) == [Subscription(wanted=True, port=9001, prefix="/phosphene")]
    assert desk.send("/unsubscribe", 9001) == [Subscription(wanted=False, port=9001, prefix="")]
    assert desk.send("/get_status") == [StatusQuestion(prefix="")]
    assert {one.target.name for one in desk.send("/status/*", "?")} == {r.name for r in TABLE if r.read_only}


def test_a_pattern_that_sets_leaves_readouts_out(desk: Desk) -> None:
    desk.send("/*", 0)
    assert desk.receiver.refused == {}
    assert desk.values.get("mix") == 0.0
    assert desk.values.snapshot(0.0).fired == frozenset()


def test_the_origin_is_the_sender(desk: Desk) -> None:
    desk.send("/mix", 0.5)
    [change] = desk.values.changes_since(0)[1]
    assert change.origin == "osc:127.0.0.1:5000"


def test_a_prompt_list_fills_all_slots(desk: Desk) -> None:
    desk.send("/prompt_4", "left over")
    desk.send("/prompt_list", json.dumps([["fox", 0.75], ["owl", 0.25]]))
    found = desk.values.targets()
    assert [found["prompt"], found["prompt_2"], found["prompt_4"]] == ["fox", "owl", ""]
    assert [found[f"prompt{slot}_weight"] for slot in ("", "_2", "_3", "_4")] == [0.75, 0.25, 0.0, 0.0]


@pytest.mark.parametrize(
    "raw",
    ["", "fox", "{}", "[]", "[1]", '[["fox"]]', '[[1, "fox"]]', '[["fox", null]]', '[["fox", NaN]]',
     json.dumps([["x", 1]] * 5), "[" * 10_000],
)  # fmt: skip
def test_a_broken_prompt_list_changes_nothing(desk: Desk, raw: str) -> None:
    before = desk.values.targets()
    desk.send("/prompt_list", raw)
    assert desk.values.targets() == before
    assert desk.receiver.refused == {"bad value": 1}


def test_an_unknown_address_is_named_once_with_the_nearest(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="phosphene.osc"):
        for _ in range(3):
            desk.send("/strenght", 0.5)
    assert [record.getMessage() for record in caplog.records] == [
        "OSC from 127.0.0.1:5000 refused: there is no address /strenght; did you mean /strength?"
    ]
    assert desk.receiver.refused == {"unknown address": 3}


def test_a_flood_of_mistakes_writes_a_few_lines_a_second(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="phosphene.osc"):
        for number in range(1000):
            desk.time = number / 400
            desk.send(f"/unknown{number}", 1)
    assert len(caplog.records) == 15
    assert desk.receiver.refused == {"unknown address": 1000}
