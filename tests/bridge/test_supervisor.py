"""The engine process under a supervisor: killed, wedged, mistaken, failing; and a bridge that is killed itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from bridge.supervisor import EngineProcess
from engine import segments
from engine.control.live_values import LiveValues
from engine.frames import Frame, PixelFormat
from engine.settings import Settings
from engine.shared_frames import FrameTooLarge

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="signals and named segments are POSIX's")


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What `condition` gives once it gives something, polled; fails after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError(f"not within {seconds} s")


class Run:
    """An engine process that is fed frames by a thread, as a source would."""

    def __init__(self, build: str, model: str = "passthrough", patience_seconds: float | None = None) -> None:
        self.values = LiveValues()
        self.engine = EngineProcess(
            Settings(model=model), self.values, frame_bytes=64 * 64 * 4, build=build, patience_seconds=patience_seconds
        )
        self.feeding = threading.Event()
        self.feeding.set()
        self.ended = threading.Event()
        self.index = 0
        self.thread = threading.Thread(target=self.feed, daemon=True)

    def feed(self) -> None:
        pixels = np.zeros((16, 16, 4), np.uint8)
        while not self.ended.wait(0.005):
            if self.feeding.is_set():
                self.engine.put(PixelFormat.BGRA, pixels, time.monotonic(), self.index)
                self.index += 1

    def start(self) -> None:
        self.engine.start()
        self.thread.start()

    def stop(self) -> None:
        self.ended.set()
        self.engine.stop()

    def frame(self, condition: Callable[[list[int]], bool] = lambda told: True) -> tuple[Frame, list[int]]:
        """A new finished frame whose told numbers [process, seed, prompt's length, triggers] are as wanted."""

        def look() -> tuple[Frame, list[int]] | None:
            frame = self.engine.finished.newest()
            if frame is None:
                return None
            told = frame.pixels.reshape(-1)[:32].view(np.int64).tolist()
            return (frame, told) if condition(told) else None

        return until(look)  # type: ignore[no-any-return]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Run]]:
    monkeypatch.syspath_prepend(str(HERE))
    runs: list[Run] = []

    def begin(build: str, **options: Any) -> Run:
        runs.append(Run(build, **options))
        runs[-1].start()
        return runs[-1]

    yield begin
    for run in runs:
        run.stop()
    assert not [name for name in segments.present() if f"_{os.getpid()}_" in name]


def test_frames_and_values_go_through_and_facts_tell(start: Callable[..., Run]) -> None:
    run = start("odd_streams:telling")
    run.values.set_many({"seed": 12345, "prompt": "x" * 77})
    frame, told = run.frame(lambda told: told[1:3] == [12345, 77])
    assert told[0] == run.engine.pid != os.getpid()
    until(lambda: run.engine.facts().state == "running" and run.engine.facts().fps > 1)
    facts = run.engine.facts()
    assert (facts.model, facts.device, facts.size, facts.restarts, facts.error) == ("passthrough", "none", (16, 16), 0, "")
    assert facts.frames_in >= facts.frames_out - 1 > 0
    assert run.values.get("state") == "running" and run.values.get("model") == "passthrough"
    run.values.set("strength", 0.25)
    with pytest.raises(FrameTooLarge):
        run.engine.put(PixelFormat.BGRA, np.zeros((65, 65, 4), np.uint8), 0.0, 0)
    run.stop()
    assert run.engine.facts().state == "stopped"
    assert run.engine.facts().frames_out >= facts.frames_out
    assert run.engine.finished.newest() is None


@posix_only
def test_a_killed_engine_is_replaced_and_the_picture_stays(start: Callable[..., Run]) -> None:
    run = start("odd_streams:telling")
    run.values.set("seed", 111)
    first, told = run.frame(lambda told: told[1] == 111)
    run.feeding.clear()
    picture = first.pixels.copy()
    os.kill(told[0], signal.SIGKILL)
    until(lambda: run.engine.pid != told[0])
    run.values.set("prompt", "y" * 33)  # in the outage
    assert np.array_equal(first.pixels, picture)
    assert "SIGKILL" in run.engine.facts().error
    until(lambda: run.engine.pid != 0)
    assert np.array_equal(first.pixels, picture)
    run.feeding.set()
    _, anew = run.frame(lambda new: new[0] != told[0] and new[1:3] == [111, 33])
    assert anew[0] == run.engine.pid
    facts = run.engine.facts()
    assert facts.restarts == 1
    assert run.values.get("engine_restarts") == 1
    until(lambda: run.engine.facts().error == "", 30)


@posix_only
def test_a_trigger_fired_in_the_outage_reaches_the_new_engine_once_and_an_old_one_not_again(start: Callable[..., Run]) -> None:
    run = start("odd_streams:telling")
    _, told = run.frame()
    run.values.set("reset", None)
    run.frame(lambda told: told[3] == 1)
    os.kill(told[0], signal.SIGSTOP)
    os.kill(told[0], signal.SIGKILL)
    until(lambda: run.engine.pid == 0)
    run.values.set("reset", None)
    run.values.set("seed", 5)
    _, anew = run.frame(lambda new: new[0] != told[0] and new[1] == 5)
    assert anew[3] == 1
    run.values.set("seed", 6)
    _, later = run.frame(lambda new: new[1] == 6)
    assert later[3] == 1


def test_a_wedged_engine_is_replaced(start: Callable[..., Run], tmp_path: Path) -> None:
    run = start("odd_streams:wedged", model=str(tmp_path / "wedged once"), patience_seconds=1.0)
    until(lambda: run.engine.facts().restarts == 1)
    assert "did not answer" in run.engine.facts().error
    out = run.engine.facts().frames_out
    until(lambda: run.engine.facts().frames_out > out + 50)
    assert run.engine.facts().restarts == 1


def test_a_mistake_of_the_user_ends_the_run_with_its_text(start: Callable[..., Run]) -> None:
    run = start("odd_streams:mistaken", model="nonsense")
    until(lambda: run.engine.facts().state == "failed")
    assert run.engine.facts().error == "there is no model 'nonsense'; choose one of a, b, c"
    assert run.values.get("state") == "failed"
    assert run.engine.pid == 0 and run.engine.facts().restarts == 0
    run.stop()
    assert run.engine.facts().state == "failed"


def test_a_fault_while_loading_is_tried_again(start: Callable[..., Run], tmp_path: Path) -> None:
    run = start("odd_streams:unlucky", model=str(tmp_path / "tries"))
    until(lambda: "the disk was slow" in run.engine.facts().error)
    until(lambda: run.engine.facts().state in ("running", "waiting"))
    assert run.engine.facts().restarts == 2


def test_a_stream_that_always_fails_is_started_again_with_its_error_told(start: Callable[..., Run]) -> None:
    run = start("odd_streams:failing")
    until(lambda: run.engine.facts().restarts >= 2)
    assert "this stream always fails" in run.engine.facts().error
    assert "this stream always fails" in str(run.values.get("error"))


def bridge_process(tmp_path: Path) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, str(HERE / "odd_streams.py")],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)])},
        stdout=subprocess.PIPE,
        stderr=(tmp_path / "errors").open("w"),
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.strip(), (tmp_path / "errors").read_text()
    return process, int(line)


@posix_only
def test_a_killed_bridge_takes_its_engine_with_it_and_leaves_nothing(tmp_path: Path) -> None:
    process, engine = bridge_process(tmp_path)
    mine = [name for name in segments.present() if f"_{process.pid}_" in name]
    assert len(mine) == 3
    process.kill()
    process.wait(10)
    until(lambda: not psutil.pid_exists(engine) or psutil.Process(engine).status() == psutil.STATUS_ZOMBIE, 10)
    until(lambda: not [name for name in segments.present() if f"_{process.pid}_" in name], 10)


@posix_only
def test_what_a_bridge_killed_with_its_engine_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    process, engine = bridge_process(tmp_path)
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        member.suspend()  # so that none of them sees another die and tidies up
    living = [name for name in segments.present() if f"_{process.pid}_" in name]
    assert len(living) == 3
    segments.remove_orphans()
    assert [name for name in segments.present() if f"_{process.pid}_" in name] == living
    for member in family:
        member.kill()
    process.wait(10)
    assert [name for name in segments.present() if f"_{process.pid}_" in name] == living
    assert set(living) <= set(segments.remove_orphans())
    assert not [name for name in segments.present() if f"_{process.pid}_" in name]


@posix_only
def test_ctrl_c_ends_both_quietly(tmp_path: Path) -> None:
    process, engine = bridge_process(tmp_path)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to both
    assert process.wait(30) == 0
    assert process.stdout is not None and "stopped" in process.stdout.read()
    assert not psutil.pid_exists(engine)
    assert not [name for name in segments.present() if f"_{process.pid}_" in name]
    assert (tmp_path / "errors").read_text() == ""
