"""The command line as real processes: mistakes are one line and code 2, help is quick and free of heavy imports."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ANY_PORT = ("--osc-port", "0", "--no-web")


def phosphene(*arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (path, str(ROOT)))), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "bridge", *arguments],
        env=environment, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT,
    )  # fmt: skip


def is_one_plain_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("phosphene: ")
    assert "Traceback" not in done.stdout
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "--model", "sd-turboo"), ("sd-turboo", "sd-turbo")),
        (("run", "--size", "512"), ("WIDTHxHEIGHT", "'512'")),
        (("run", "--size", "32x512"), ("32x512", "64")),
        (("run", "--output-size", "99999x512"), ("99999x512",)),
        (("run", "--source", "nowhere.mp4"), ("nowhere.mp4",)),
        (("run", "--source", "tets"), ("test",)),
        (("run", "--source", "camera:zero"), ("camera:0",)),
        (("run", "--sink", "out.txt"), ("out.txt", ".mp4")),
        (("run", "--sink", "no/such/folder/out.mp4"), ("no/such/folder",)),
        (("run", "--set", "strenght=0.5"), ("strenght", "'strength'")),
        (("run", "--set", "strength=much"), ("strength", "'much'")),
        (("run", "--set", "strength=nan"), ("strength", "finite")),
        (("run", "--set", "guidance=selff"), ("guidance", "onetime")),
        (("run", "--set", "fps=30"), ("fps", "readout")),
        (("run", "--set", "strength"), ("name=value",)),
        (("run", "--preset", "watercolour"), ("watercolour", "watercolor")),
        (("run", "--device", "gpu"), ("gpu", "cuda")),
        (("run", "--dtype", "int8"), ("int8", "float16")),
        (("run", "--accelerate", "magic"), ("magic", "auto", "openvino", "compile")),
        (("run", "--linears", "magic"), ("magic", "native", "fp8")),
        (("run", "--lora", "style.safetensors=strong"), ("strong",)),
        (("run", "--fps", "quick"), ("--fps", "number")),
        (("run", "--fps", "500"), ("--fps", "240")),
        (("run", "--osc-port", "70000"), ("--osc-port",)),
        (("run", "--sorce", "test"), ("--sorce",)),
        (("run", "more"), ("more",)),
        (("fly",), ("fly",)),
        (("render", "clip.mp4"), ("OUT",)),
        (("render", "nowhere.mp4", "out.mp4"), ("nowhere.mp4",)),
        (("render", "test", "out.mp4"), ("test",)),
    ],
)
def test_a_mistake_is_one_line(arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    command, *rest = arguments
    is_one_plain_line(phosphene(command, *(ANY_PORT if command == "run" else ()), *rest), *words)


@pytest.fixture
def taken_udp_port() -> Iterator[int]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture
def taken_tcp_port() -> Iterator[int]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield held.getsockname()[1]


def test_ports_in_use_are_told_before_anything_starts(taken_udp_port: int, taken_tcp_port: int) -> None:
    run = ("run", "--model", "passthrough", "--sink", "null")
    is_one_plain_line(phosphene(*run, "--osc-port", str(taken_udp_port), "--no-web"), str(taken_udp_port), "--osc-port")
    done = phosphene(*run, "--osc-port", "0", "--web-port", str(taken_tcp_port))
    is_one_plain_line(done, str(taken_tcp_port), "--web-port")


@pytest.fixture
def without_ndi(tmp_path: Path) -> str:
    """A folder that, first on the path, stands for a machine on which the NDI binding cannot be loaded."""
    (tmp_path / "NDIlib.py").write_text("raise ImportError('libndi.so.6: cannot open shared object file')\n")
    return str(tmp_path)


def test_ndi_asked_for_where_there_is_none_is_a_mistake(without_ndi: str) -> None:
    run = ("run", "--model", "passthrough", *ANY_PORT)
    is_one_plain_line(phosphene(*run, "--sink", "ndi:Stage", path=without_ndi), "NDI")
    is_one_plain_line(phosphene(*run, "--source", "ndi:Camera", "--sink", "null", path=without_ndi), "NDI")


def test_a_run_without_ndi_that_did_not_ask_for_it_goes_on(without_ndi: str, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = phosphene(
        "run", "--model", "passthrough", "--osc-port", "0", "--web-port", "0", "--frames", "5", "--report", str(report),
        path=without_ndi,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1 and "NDI" in done.stderr
    assert "http://127.0.0.1:" in done.stdout
    assert json.loads(report.read_text())["frames_out"] >= 5


def test_a_model_that_cannot_be_loaded_is_one_line_too(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    done = phosphene("run", "--model", str(tmp_path), "--sink", "null", *ANY_PORT)
    is_one_plain_line(done, tmp_path.name)


def test_a_report_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    report = str(tmp_path / "file" / "report.json")
    done = phosphene("run", "--model", "passthrough", "--sink", "null", *ANY_PORT, "--report", report)
    is_one_plain_line(done, "report.json")


def test_help_loads_no_torch_no_opencv_and_no_device() -> None:
    program = (
        "import sys, bridge.__main__, bridge.cli; code = bridge.cli.main(['run', '--help'])\n"
        "heavy = {'torch', 'cv2', 'av', 'numpy', 'NDIlib', 'diffusers', 'transformers', 'uvicorn', 'starlette'}\n"
        "assert code == 0 and not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, timeout=60)


def test_the_lists_and_the_version() -> None:
    assert phosphene("--version").stdout.startswith("phosphene ")
    assert "embedded" in phosphene("models").stdout
    assert "watercolor" in phosphene("presets").stdout
    for command in ((), ("--help",), ("run", "--help"), ("render", "--help")):
        done = phosphene(*command)
        assert done.returncode == 0 and "Usage: phosphene" in done.stdout


def test_the_list_of_models_says_of_every_video_row_what_it_holds_what_was_verified_and_which_files_it_takes() -> None:
    from engine.models.catalogue import CATALOGUE

    blocks: dict[str, str] = {}
    name = ""
    for line in phosphene("models").stdout.splitlines():
        if line.startswith(" "):
            blocks[name] += line
        else:
            name = line.split()[0]
            blocks[name] = line
    for card in CATALOGUE:
        if card.video is not None:
            assert f"verified: {card.video.verified}" in blocks[card.name]
            assert (f"memory: {card.memory_gb:g} GB with" in blocks[card.name]) == bool(card.video.shape)
            assert card.revision is None or f"revision: {card.revision}" in blocks[card.name]
    assert "revision: not pinned: newest of the hub" in blocks["reward-forcing"] and "verified" not in blocks["sd-turbo"]


def test_sources_say_when_ndi_is_not_available(without_ndi: str) -> None:
    done = phosphene("sources", path=without_ndi)
    assert done.returncode == 0 and done.stderr == ""
    assert "NDI is not available" in done.stdout and "frames:FOLDER" in done.stdout


def test_the_doctor_names_what_is_missing_and_what_to_do(without_ndi: str, taken_udp_port: int) -> None:
    done = phosphene("doctor", "--osc-port", str(taken_udp_port), "--web-port", "0", path=without_ndi)
    assert done.returncode == 1 and done.stderr == ""
    lines = done.stdout.splitlines()[1:]
    assert all(line.startswith(("ok ", "problem ")) for line in lines)
    problems = [line for line in lines if line.startswith("problem")]
    assert any("NDI" in line and "install" in line for line in problems)
    assert any(str(taken_udp_port) in line and "--osc-port" in line for line in problems)
    assert any(line.startswith("ok") and "torch" in line for line in lines)
    assert any(line.startswith("ok") and "runtime" in line and "OpenVINO" in line for line in lines)
