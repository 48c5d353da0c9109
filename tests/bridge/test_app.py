"""Whole runs as real processes: the frames that reach a sink, the report, and the end by frames, seconds and signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest

from bridge.sources.index_blocks import read_index
from engine.segments import present

ROOT = Path(__file__).resolve().parents[2]
BOTH = pytest.mark.parametrize("process", [(), ("--in-process",)], ids=["engine process", "in process"])
PATIENCE_SECONDS = 60.0
needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="signals of a terminal are sent the POSIX way here")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "bridge", "run", "--model", "passthrough", "--osc-port", "0", "--no-web", *arguments]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def indices_in(folder: Path) -> list[int | None]:
    pictures = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(folder.glob("*.png"))]
    return [read_index(np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2BGRA), dtype=np.uint8)) for picture in pictures]


@BOTH
def test_a_run_of_so_many_frames_delivers_them_in_order_and_reports(tmp_path: Path, process: tuple[str, ...]) -> None:
    folder, file = tmp_path / "out", tmp_path / "deep" / "report.json"
    done = run(
        "--source", "test", "--sink", f"frames:{folder}", "--frames", "30", "--size", "192x128", "--fps", "25",
        "--seed", "7", "--set", "mix=0.5", "--report", str(file), *process,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    indices = indices_in(folder)
    assert None not in indices
    assert indices == sorted(indices, key=lambda index: index or 0)
    assert len(set(indices)) == 30
    report = json.loads(file.read_text(encoding="utf-8"))
    assert report["frames_out"] >= 30
    assert report["frames_in"] >= report["frames_out"]
    assert report["shown"] == len(indices) == 30 + report["repeated"]
    assert report["size"] == [192, 128] and report["seed"] == 7 and report["model"] == "passthrough"
    assert (report["parameters"]["mix"], report["parameters"]["output_fps"]) == (0.5, 25.0)
    latency = report["latency_ms"]
    assert 0.0 < latency["p50"] <= latency["p95"] <= latency["p99"] < PATIENCE_SECONDS * 1000
    assert report["engine_restarts"] == 0 and report["error"] == ""
    assert report["sinks"] and report["source"].startswith("test pattern 192x128")
    assert set(report) >= {"dropped", "skipped", "fps", "stage_ms", "device", "dtype", "runtime", "version", "seconds", "osc"}


def test_seconds_count_from_when_the_engine_runs(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    assert run("--sink", "null", "--seconds", "1.5", "--quiet", "--report", str(file)).returncode == 0
    report = json.loads(file.read_text())
    assert report["seconds"] == pytest.approx(1.5, abs=0.5)
    assert report["frames_out"] > 10


def test_a_recording_is_whole_when_the_run_has_ended(tmp_path: Path) -> None:
    import av

    clip = tmp_path / "out.mp4"
    assert run("--sink", str(clip), "--sink", "null", "--frames", "20", "--size", "128x128").returncode == 0
    with av.open(str(clip)) as container:
        decoded = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    assert len(decoded) >= 20 and decoded[0].shape == (128, 128, 3)
    assert list(tmp_path.iterdir()) == [clip]


def test_output_that_is_no_terminal_is_plain_lines(tmp_path: Path) -> None:
    done = run("--sink", "null", "--frames", "3")
    assert "\r" not in done.stdout and "\x1b" not in done.stdout
    assert "running  model passthrough" in done.stdout
    assert "oscsend localhost" in done.stdout


def test_quiet_says_nothing() -> None:
    done = run("--sink", "null", "--frames", "3", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


class Running:
    """A run that goes on until it is told to end; the lines it says are read as they come."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            command(*arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        self.said: list[str] = []

    def wait_for(self, word: str) -> None:
        assert self.process.stdout is not None
        deadline = time.monotonic() + PATIENCE_SECONDS
        for line in self.process.stdout:
            self.said.append(line)
            if word in line:
                return
            assert time.monotonic() < deadline, self.said
        raise AssertionError(f"{word!r} was never said: {self.said} {self.process.communicate()[1]}")

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def segments(self) -> list[str]:
        return [name for name in present() if f"_{self.process.pid}_" in name]

    def end(self) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode, errors


@pytest.fixture
def started() -> Iterator[Any]:
    runs: list[Running] = []

    def start(*arguments: str) -> Running:
        runs.append(Running(*arguments))
        return runs[-1]

    yield start
    for one in runs:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()


@needs_posix
@BOTH
def test_ctrl_c_ends_cleanly(started: Any, tmp_path: Path, process: tuple[str, ...]) -> None:
    clip, file = tmp_path / "out.mp4", tmp_path / "report.json"
    running = started("--sink", str(clip), "--report", str(file), *process)
    running.wait_for("running  model")
    children = running.children()
    assert bool(running.segments()) == (not process)
    os.killpg(running.process.pid, signal.SIGINT)  # a terminal sends it to the whole group
    assert running.end() == (0, "")
    assert running.segments() == []
    assert psutil.wait_procs(children, timeout=10)[1] == []
    assert json.loads(file.read_text())["frames_out"] > 0
    assert clip.stat().st_size > 0 and sorted(tmp_path.iterdir()) == [clip, file]


@needs_posix
def test_sigterm_ends_cleanly_even_while_the_engine_starts(started: Any) -> None:
    running = started("--sink", "null")
    running.wait_for("Ctrl-C ends")
    running.process.send_signal(signal.SIGTERM)
    assert running.end() == (0, "")
    assert running.segments() == []


@needs_posix
def test_a_killed_engine_is_started_again_and_the_output_keeps_its_rate(started: Any, tmp_path: Path) -> None:
    folder, file = tmp_path / "out", tmp_path / "report.json"
    running = started("--sink", f"frames:{folder}", "--size", "128x96", "--report", str(file), "--seconds", "7")
    running.wait_for("running  model")
    engine = next(child for child in running.children() if "spawn_main" in " ".join(child.cmdline()))
    engine.kill()
    code, errors = running.end()
    assert code == 0 and "engine" in errors and "Traceback" not in errors
    report = json.loads(file.read_text())
    assert report["engine_restarts"] >= 1
    assert report["shown_fps"] == pytest.approx(30.0, rel=0.1)  # repeated while the engine was away
    assert report["repeated"] > 0
    assert report["parameters"]["state"] == "running"
    indices = [index or 0 for index in indices_in(folder)]
    assert indices == sorted(indices) and indices[-1] > report["repeated"]  # and it went on afterwards


@needs_posix
def test_osc_reaches_a_run_and_is_counted(started: Any, tmp_path: Path) -> None:
    from pythonosc.udp_client import SimpleUDPClient

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    file = tmp_path / "report.json"
    running = started("--sink", "null", "--osc-port", str(port), "--report", str(file))
    running.wait_for("running  model")
    SimpleUDPClient("127.0.0.1", port).send_message("/phosphene/strength", 0.25)
    SimpleUDPClient("127.0.0.1", port).send_message("/phosphene/output_fps", 12.0)
    running.wait_for("out ")  # a status line some seconds later
    running.process.send_signal(signal.SIGINT)
    assert running.end()[0] == 0
    report = json.loads(file.read_text())
    assert (report["parameters"]["strength"], report["parameters"]["output_fps"]) == (0.25, 12.0)
    assert report["osc"]["messages"] == 2
