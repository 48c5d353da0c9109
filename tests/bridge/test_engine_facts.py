"""Facts, back-off and words about the engine."""

from __future__ import annotations

import sys

import pytest

from bridge.engine_facts import BackOff, EngineFacts, death_in_words
from engine.control.live_values import LiveValues
from engine.gpu.heartbeat import LOST_EXIT


def test_back_off_doubles_to_its_longest_and_begins_anew_after_health() -> None:
    back_off = BackOff()
    assert [back_off.after(0.0) for _ in range(8)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])
    assert back_off.after(29.9) == 5.0
    assert back_off.after(30.0) == pytest.approx(0.1)
    assert back_off.after(1.0) == pytest.approx(0.2)


def test_status_rows_are_readouts_of_the_table() -> None:
    values = LiveValues()
    values.report(EngineFacts(state="running", fps=59.5, restarts=3, error="none to speak of", dropped=7).status_rows())
    assert (values.get("state"), values.get("fps"), values.get("engine_restarts")) == ("running", 59.5, 3)
    assert (values.get("first_frame_ms"), values.get("deadline_misses")) == (0.0, 0)
    values.report(EngineFacts(punctuality={"first_frame_ms": 310.0, "jitter_ms": 4.5, "deadline_misses": 2}).status_rows())
    assert [values.get(name) for name in ("first_frame_ms", "jitter_ms", "deadline_misses")] == [310.0, 4.5, 2]


@pytest.mark.skipif(sys.platform == "win32", reason="signals have no names there")
def test_a_death_is_told_in_words() -> None:
    assert death_in_words(-9) == ("the engine process was killed (SIGKILL, perhaps as the machine ran out of memory); it is started again")
    assert "SIGSEGV" in death_in_words(-11) and "memory" not in death_in_words(-11)
    assert "exit status 3" in death_in_words(3)
    assert "ranks was lost" in death_in_words(LOST_EXIT)
    assert "signal 63" in death_in_words(-63) or "SIG" in death_in_words(-63)
