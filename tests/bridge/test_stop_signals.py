"""Signals as a terminal sends them: the first asks, the second ends at once."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.stop_signals import HARD_EXIT, StopSignals

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys, time
from bridge.stop_signals import StopSignals
with StopSignals() as signals:
    print("entered", flush=True)
    signals.asked.wait()
    print("asked", flush=True)
    time.sleep(60)  # a clean end that hangs
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of a terminal are sent the POSIX way here")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_ctrl_c_ends_at_once(number: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "entered\n"
        process.send_signal(number)
        assert process.stdout.readline() == "asked\n"
        process.send_signal(signal.SIGTERM)  # another polite wish changes nothing
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == HARD_EXIT
    finally:
        process.kill()
        process.communicate()


def test_the_signals_are_given_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with StopSignals() as signals:
        assert signal.getsignal(signal.SIGINT) is not before
        assert not signals.asked.is_set()
    assert signal.getsignal(signal.SIGINT) is before
