"""A video model between a real NDI sender and receiver: pictures through in order, and another prompt without a restart."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pythonosc.udp_client import SimpleUDPClient

from bridge.ndi import library
from bridge.sinks.colour import to_bgra
from engine.frames import Frame, PixelFormat, Pixels
from engine.models.video_catalogue import EMBEDDED_VIDEO
from tests.bridge.test_run_over_ndi import PATIENCE_SECONDS, ROOT, Stage, until
from tests.engine.models.conftest import tiny_wan  # noqa: F401

pytestmark = pytest.mark.skipif(not library.check()[0], reason="NDI cannot be loaded on this machine")
START = 3 * PATIENCE_SECONDS


class VideoStage(Stage):
    """Notes beside the numbers how much there is to see in a picture."""

    def __init__(self) -> None:
        self.contrasts: list[float] = []
        super().__init__()

    def _note(self, format: PixelFormat, pixels: Pixels, captured_at: float, index: int) -> None:
        super()._note(format, pixels, captured_at, index)
        frame = Frame(pixels=pixels, format=format, captured_at=captured_at, index=index)
        self.contrasts.append(float(to_bgra(frame)[..., :3].std()))

    @property
    def numbers(self) -> list[int]:
        return [index for index in self.seen if index is not None]


@pytest.fixture
def stage() -> Iterator[VideoStage]:
    stage = VideoStage()
    yield stage
    stage.close()


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def running(stage: VideoStage, report: Path, *asked: str) -> Iterator[SimpleUDPClient]:
    """`phosphene run` between the stage's camera and its screen, asked over OSC; ended as a user ends it, with its report written."""
    port = free_port()
    command = [
        sys.executable, "-m", "bridge", "run", "--device", "cpu", "--no-web", *asked, "--source", f"ndi:{stage.camera_name}",
        "--sink", f"ndi:{stage.effect_name}", "--osc-port", str(port), "--report", str(report),
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        stage.plug_in()
        yield SimpleUDPClient("127.0.0.1", port)
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
    finally:
        process.kill()
        _, errors = process.communicate()
    assert "Traceback" not in errors, errors
    assert min(stage.contrasts) > 1.0, "a black or empty picture was shown"


def test_a_prompt_changes_without_a_restart_or_a_broken_frame(tiny_wan: Path, stage: VideoStage, tmp_path: Path) -> None:  # noqa: F811
    report, knobs = tmp_path / "report.json", ("mix=0", "steps=1", "chunk_frames=1", "prompt=a cat", "deadline=1")
    asked = [word for knob in knobs for word in ("--set", knob)]
    with running(stage, report, "--model", str(tiny_wan), "--size", "192x128", *asked) as osc:
        until(lambda: len(set(stage.numbers)) > 10, "no picture came through", START)
        osc.send_message("/prompt", "oil painting")
        count = len(set(stage.numbers))
        until(lambda: len(set(stage.numbers)) > count + 20, "the pictures ended with the prompt", START)
        assert stage.numbers == sorted(stage.numbers)
        osc.send_message("/mix", 1.0)  # now the model's own pictures, among which no number can be read
        until(lambda: len(stage.seen) > 30 and stage.seen[-30:] == [None] * 30, "the generated picture never came", START)
        osc.send_message("/prompt", "sea")
        count = len(stage.seen)
        until(lambda: len(stage.seen) > count + 60, "the pictures ended with the second prompt", START)
    told = json.loads(report.read_text())
    assert (told["engine_restarts"], told["error"], told["parameters"]["prompt"]) == (0, "", "sea")
    assert told["punctuality"]["first_frame_ms"] > 0 and told["punctuality"]["jitter_ms"] > 0
    assert told["punctuality"]["deadline_misses"] > 0 and told["parameters"]["seed_mode"] == "random"


class ColourStage(VideoStage):
    """Notes the mean colour of every picture as well."""

    def __init__(self) -> None:
        self.colours: list[tuple[float, float, float]] = []
        super().__init__()

    def _note(self, format: PixelFormat, pixels: Pixels, captured_at: float, index: int) -> None:
        frame = Frame(pixels=pixels, format=format, captured_at=captured_at, index=index)
        blue, green, red = to_bgra(frame)[..., :3].reshape(-1, 3).mean(0)
        self.colours.append((float(red), float(green), float(blue)))
        super()._note(format, pixels, captured_at, index)


@pytest.fixture
def colour_stage() -> Iterator[ColourStage]:
    stage = ColourStage()
    yield stage
    stage.close()


def test_the_model_that_ships_changes_its_look_without_a_restart_or_a_broken_frame(colour_stage: ColourStage, tmp_path: Path) -> None:
    report, asked = tmp_path / "report.json", ("--model", EMBEDDED_VIDEO, "--size", "128x128", "--set", "prompt=blood red")
    with running(colour_stage, report, *asked) as osc:
        until(lambda: shown(colour_stage, 0), "no red picture came through", START)
        osc.send_message("/prompt", "underwater")
        until(lambda: shown(colour_stage, 2), "the picture never became blue", START)
    told = json.loads(report.read_text())
    assert (told["engine_restarts"], told["error"], told["parameters"]["prompt"]) == (0, "", "underwater")
    assert 0 < told["punctuality"]["first_frame_ms"] < 1000 * START and told["punctuality"]["jitter_ms"] > 0


def shown(stage: ColourStage, channel: int) -> bool:
    """Whether the last ten pictures are of that colour (red, green, blue) before all."""
    newest = stage.colours[-10:]
    return len(newest) == 10 and all(colour[channel] == max(colour) > 1.1 * sorted(colour)[1] for colour in newest)
