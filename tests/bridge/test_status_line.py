"""What is printed while a run goes on, on a terminal and elsewhere."""

from __future__ import annotations

import io
import logging

import pytest

from bridge.status_line import PLAIN_EVERY_SECONDS, StatusLine, speak_through, status_text
from engine.control.live_values import LiveValues


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.fixture
def values() -> LiveValues:
    values = LiveValues()
    values.report({"state": "running", "model": "embedded", "fps": 24.96, "latency_ms": 41.6, "dropped": 3, "repeated": 7})
    return values


def test_the_line_names_rate_latency_drops_model_and_state(values: LiveValues) -> None:
    text = status_text(values.targets(), 30.0)
    for part in ("running", "embedded", "25.0 fps", "out 30.0 fps", "42 ms", "dropped 3", "repeated 7"):
        assert part in text
    assert not any(word in text for word in ("restarts", "error", "jitter", "late "))
    values.report({"first_frame_ms": 300.0, "jitter_ms": 4.6, "deadline_misses": 2})
    assert status_text(values.targets(), 30.0).endswith("jitter 5 ms  late 2")
    values.report({"engine_restarts": 2, "error": "the cable is out"})
    assert status_text(values.targets(), 30.0).endswith("engine restarts 2  error: the cable is out")


def test_off_a_terminal_a_plain_line_comes_every_few_seconds_and_at_a_new_state(values: LiveValues) -> None:
    stream = io.StringIO()
    status = StatusLine(stream)
    for tenth in range(101):
        if tenth == 20:
            values.report({"state": "restarting"})
        status.update(values, 30.0, 50.0 + tenth / 10)
    lines = stream.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["running", "restarting", "restarting"]
    assert PLAIN_EVERY_SECONDS == 5.0  # at 0 s, 2 s (the new state) and 7 s
    assert "\r" not in stream.getvalue() and "\x1b" not in stream.getvalue()


def test_on_a_terminal_the_line_is_rewritten_and_other_lines_push_it_down(values: LiveValues) -> None:
    stream = Terminal()
    status = StatusLine(stream)
    status.update(values, 30.0, 0.0)
    first = stream.getvalue()
    assert "\n" not in first
    status.say("a new source")
    after = stream.getvalue()[len(first) :]
    assert after == "\r" + " " * len(first) + "\r" + "a new source\n"
    status.update(values, 30.0, 0.1)
    status.close()
    assert stream.getvalue().endswith("\n")


def test_a_line_is_never_wider_than_the_terminal(values: LiveValues, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    stream = Terminal()
    StatusLine(stream).update(values, 30.0, 0.0)
    assert len(stream.getvalue()) == 29


def test_quiet_keeps_back_all_but_complaints(values: LiveValues, capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    status = StatusLine(stream, quiet=True)
    status.say("hello")
    status.update(values, 30.0, 0.0)
    status.complain("the cable is out")
    assert stream.getvalue() == ""
    assert capsys.readouterr().err == "phosphene: the cable is out\n"


def test_a_reader_that_has_gone_ends_nothing(values: LiveValues) -> None:
    status = StatusLine(Broken())
    status.say("hello")
    status.update(values, 30.0, 0.0)
    status.close()


def test_what_is_logged_becomes_a_complaint(capsys: pytest.CaptureFixture[str]) -> None:
    with speak_through(StatusLine(io.StringIO())):
        logging.getLogger("somewhere").warning("%d frames were lost", 3)
        logging.getLogger("somewhere").info("nobody needs this")
    assert capsys.readouterr().err == "phosphene: 3 frames were lost\n"
