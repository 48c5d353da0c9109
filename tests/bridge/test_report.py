"""The report as a file."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType

import pytest

from bridge.latency import Percentiles
from bridge.mistake import Mistake
from bridge.report import RunReport, make_folder_for, write_report
from engine.control.live_values import LiveValues


def report(seconds: float = 1.0) -> RunReport:
    return RunReport(
        version="0", source="test", sinks=("null", "ündé"), model="passthrough", device="cpu", dtype="float32", runtime="OpenVINO bf16",
        size=(512, 256), seed=2, seconds=seconds, frames_in=3, frames_out=2, dropped=1, skipped=0, shown=4, repeated=2,
        late_ticks=0, fps=2.0, shown_fps=4.0, latency_ms=Percentiles(p50=1 / 3, p95=2.0, p99=3.0),
        stage_ms=MappingProxyType({"decode": 1.23456789}), engine_restarts=0, error="", parameters=LiveValues().targets(),
        osc=MappingProxyType({"packets": 5}),
    )  # fmt: skip


def test_the_file_is_json_with_plain_types(tmp_path: Path) -> None:
    write_report(tmp_path / "new" / "report.json", report())
    read = json.loads((tmp_path / "new" / "report.json").read_text(encoding="utf-8"))
    assert read["latency_ms"] == {"p50": 0.3333, "p95": 2.0, "p99": 3.0}
    assert read["runtime"] == "OpenVINO bf16" and read["size"] == [512, 256] and read["sinks"] == ["null", "ündé"]
    assert read["stage_ms"] == {"decode": 1.2346} and read["osc"] == {"packets": 5}
    assert set(read["parameters"]) == set(LiveValues().targets())


def test_it_replaces_the_one_before_and_leaves_nothing_beside(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    write_report(file, report(seconds=1.0))
    write_report(file, report(seconds=2.0))
    assert json.loads(file.read_text())["seconds"] == 2.0
    assert list(tmp_path.iterdir()) == [file]


def test_a_place_that_cannot_be_written_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "report.json", tmp_path):
        with pytest.raises(Mistake, match="cannot be written"):
            make_folder_for(place)
        with pytest.raises(Mistake, match="cannot be written"):
            write_report(place, report())
