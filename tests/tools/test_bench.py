"""The bench runs, compares with diffusers in the same run, and says whose mistake a mistake is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.bench import main


@pytest.mark.parametrize("kind", ["sd15", "sdxl", "flow"])
def test_stream_and_peer_are_measured_side_by_side(tiny_model: Callable[[str], Path], tmp_path: Path, kind: str) -> None:
    out = tmp_path / "bench.json"
    asked = ["--model", str(tiny_model(kind)), "--size", "64x64", "--steps", "1,2", "--frames", "8", "--device", "cpu"]
    assert main(["image", *asked, "--threads", "1", "--json", str(out)]) == 0
    figures = json.loads(out.read_text())
    rows = figures["rows"]
    assert [row["steps"] for row in rows] == [1, 2, 1, 2]
    assert [row["case"].startswith("diffusers") for row in rows] == [True, True, False, False]
    for peer, ours in zip(rows[:2], rows[2:], strict=True):
        assert ours["ratio"] == pytest.approx(ours["fps"] / peer["fps"])
        assert set(ours["stage_ms"]) == {"encode", "denoise", "decode", "steady"}
        assert ours["latency_p50"] <= ours["latency_p95"] <= ours["latency_p99"]
    assert figures["loop_overhead_us"] > 0


def test_runtimes_are_measured_against_eager_torch(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    out = tmp_path / "bench.json"
    asked = ["--model", str(tiny_model("flow")), "--size", "64x64", "--steps", "1", "--frames", "8", "--device", "cpu", "--no-peer"]
    assert main(["image", *asked, "--dtype", "float32", "--threads", "1", "--accelerate", "none,openvino", "--json", str(out)]) == 0
    eager, ours = json.loads(out.read_text())["rows"]
    assert (eager["case"], ours["case"]) == ("phosphene, torch f32", "phosphene, OpenVINO f32")
    assert eager["to_eager"] == 1.0 and ours["to_eager"] == pytest.approx(ours["fps"] / eager["fps"])


def test_auto_changes_on_the_way_and_is_no_row_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["image", "--accelerate", "none,auto"])
    assert "none, openvino, compile" in capsys.readouterr().err


def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "--model", "sd-tubro"]) == 2
    assert main(["image", "--size", "10x10"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2 and "sd-turbo" in lines[0]
