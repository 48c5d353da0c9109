"""Rendering as a real process: every frame once, in order, the same bytes again, and nothing left by what went wrong."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from bridge.sources.index_blocks import read_index
from bridge.sources.test_pattern import Pattern

ROOT = Path(__file__).resolve().parents[2]
EMBEDDED = ROOT / "engine" / "models" / "embedded"
COUNT = 24


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures that carry their number."""
    folder = tmp_path_factory.mktemp("pictures")
    pattern = Pattern(192, 128, 30.0)
    for index in range(COUNT):
        cv2.imwrite(str(folder / f"{index}.png"), pattern.picture(index)[..., :3])
    return folder


def render(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bridge", "render", "--model", "passthrough", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def indices_in(folder: Path) -> list[int | None]:
    opened = [cv2.imread(str(path)) for path in sorted(folder.glob("*.png"))]
    return [read_index(np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2BGRA), dtype=np.uint8)) for picture in opened]


def test_every_picture_is_rendered_once_and_in_order(pictures: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    done = render(f"frames:{pictures}", f"frames:{tmp_path / 'out'}", "--seed", "11", "--report", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert indices_in(tmp_path / "out") == list(range(COUNT))
    report = json.loads(file.read_text())
    assert (report["frames_in"], report["frames_out"], report["dropped"], report["repeated"]) == (COUNT, COUNT, 0, 0)
    assert report["seed"] == 11 and report["size"] == [192, 128]


@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.mkv"])
def test_twice_the_same_bytes(pictures: Path, tmp_path: Path, name: str) -> None:
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        assert render(f"frames:{pictures}", str(tmp_path / folder / name), "--fps", "24").returncode == 0
    assert digests(tmp_path / "first") == digests(tmp_path / "second")
    with av.open(str(tmp_path / "first" / name)) as container:
        assert container.streams.video[0].average_rate == Fraction(24)
        assert len(list(container.decode(video=0))) == COUNT


@pytest.mark.skipif(not (EMBEDDED / "unet").is_dir(), reason="the embedded model is not in this checkout")
def test_the_embedded_model_renders_the_same_bytes_for_the_same_seed(pictures: Path, tmp_path: Path) -> None:
    for folder, seed in (("first", "3"), ("second", "3"), ("other", "4")):
        arguments = ("--frames", "2", "--size", "64x64", "--seed", seed, "--device", "cpu", "--model", "embedded")
        assert render(f"frames:{pictures}", f"frames:{tmp_path / folder}", *arguments).returncode == 0
    assert digests(tmp_path / "first") == digests(tmp_path / "second")
    assert digests(tmp_path / "first") != digests(tmp_path / "other")


def test_a_clip_keeps_its_rate_and_frames_ends_it(pictures: Path, tmp_path: Path) -> None:
    clip, again = tmp_path / "clip.mp4", tmp_path / "again.mp4"
    assert render(f"frames:{pictures}", str(clip), "--fps", "29.97").returncode == 0
    assert render(str(clip), str(again), "--frames", "7").returncode == 0
    with av.open(str(again)) as container:
        assert float(container.streams.video[0].average_rate or 0) == pytest.approx(29.97, rel=1e-3)
        assert len(list(container.decode(video=0))) == 7


def test_a_still_picture_is_rendered_as_often_as_asked(pictures: Path, tmp_path: Path) -> None:
    assert render(str(pictures / "5.png"), f"frames:{tmp_path / 'out'}", "--frames", "4").returncode == 0
    assert indices_in(tmp_path / "out") == [5] * 4


def test_a_folder_that_is_not_empty_is_left_alone(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    done = render(f"frames:{pictures}", f"frames:{tmp_path}")
    assert done.returncode == 2 and "not empty" in done.stderr and done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_error_on_the_way_leaves_nothing_and_spares_what_was_there(pictures: Path, tmp_path: Path) -> None:
    broken = tmp_path / "pictures"
    broken.mkdir()
    for path in sorted(pictures.iterdir()):
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "20.png").write_bytes(b"this is no picture")
    (tmp_path / "out.mp4").write_bytes(b"an older rendering")
    done = render(f"frames:{broken}", str(tmp_path / "out.mp4"))
    assert done.returncode == 2 and done.stderr.startswith("phosphene: ") and done.stderr.count("\n") == 1
    assert "20.png" in done.stderr
    assert (tmp_path / "out.mp4").read_bytes() == b"an older rendering"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "pictures"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of a terminal are sent the POSIX way here")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("target", ["out.mp4", "frames:out"])
def test_an_interrupted_rendering_leaves_nothing(pictures: Path, tmp_path: Path, number: int, target: str) -> None:
    command = [sys.executable, "-m", "bridge", "render", str(pictures / "0.png"), target, "--frames", "1000000"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([*command, "--model", "passthrough"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60.0
        while not any(tmp_path.rglob("*")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert any(tmp_path.rglob("*")), "the rendering never began"
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, errors) == (130, b"")
    assert list(tmp_path.iterdir()) == []
