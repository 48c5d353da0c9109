"""The bench of video streams runs every case with figures that belong together, and says whose mistake a mistake is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.models.video_policies import SHAPES
from engine.pipelines.video_stream import VideoStream
from tests.engine.models.conftest import tiny_wan  # noqa: F401
from tools import bench_video
from tools.bench import main
from tools.bench_video_models import RANDOM_SHAPES, random_transformer
from tools.bench_video_table import VideoRow, published_fps

TINY = ["video", "--random-weights", "tiny", "--device", "cpu", "--dtype", "float32", "--threads", "1", "--size", "64x64"]
TINY += ["--chunks", "3", "--warm-up", "2"]


def test_every_case_stands_beside_its_roofline_and_diffusers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench.json"
    asked = ["--steps", "1,2", "--scheduler", "sequential,stream_batch,clean_rerun", "--input-fps", "60", "--json", str(out)]
    assert main([*TINY, *asked]) == 0
    figures = json.loads(out.read_text())
    rows = {(row["scheduler"], row["steps"]): row for row in figures["rows"]}
    calls = {("sequential", 1): 1, ("sequential", 2): 2, ("stream_batch", 2): 1, ("clean_rerun", 1): 2, ("clean_rerun", 2): 3}
    assert {case: row["calls"] for case, row in rows.items()} == calls  # one step alone is no batch
    for row in rows.values():
        stages = row["encode_ms"] + row["calls"] * row["call_ms"] + row["decode_ms"]
        assert row["fps"] <= 1.3 * 4 * 1000 / stages  # the stages are in the rate, and something beside them
        assert row["shares"]["fps"] == pytest.approx(row["fps"] / row["least_fps"])
        assert row["shares"]["to_diffusers"] == pytest.approx(row["peer_call_ms"] * row["rows"] / row["call_ms"])
        least = row["least_encode_ms"] + row["calls"] * row["least_call_ms"] + row["least_decode_ms"]
        assert row["least_fps"] == pytest.approx(4000 / least)
        assert 0 < row["paced"]["latency_p50"] <= row["paced"]["latency_p95"] and row["first_ms"] > 0
        assert 0 <= row["paced"]["dropped"] < row["paced"]["captured"] == 12
    two = rows["stream_batch", 2]
    assert two["rows"] == 2 and two["least_call_ms"] > rows["sequential", 2]["least_call_ms"]
    assert "TFLOP/s" in figures["ceilings"] and figures["data_sheet"] is None
    shown = capsys.readouterr().out
    assert "stream_batch" in shown and "to diffusers" in shown


def test_a_run_that_is_cut_off_keeps_the_rows_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, measure, done = tmp_path / "bench.json", bench_video.measure, []

    def cut_off(case: bench_video.Case, *rest: Any) -> VideoRow:
        if done:
            raise KeyboardInterrupt
        done.append(case)
        return measure(case, *rest)

    monkeypatch.setattr(bench_video, "measure", cut_off)
    with pytest.raises(KeyboardInterrupt):
        main([*TINY, "--steps", "1,2", "--no-peer", "--json", str(out)])
    figures = json.loads(out.read_text())
    assert [row["steps"] for row in figures["rows"]] == [1] and "TFLOP/s" in figures["ceilings"]
    assert list(tmp_path.iterdir()) == [out]


def test_the_tiny_codec_is_the_small_one_and_has_another_roofline(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    assert main([*TINY, "--steps", "1", "--codec", "own,tiny", "--no-peer", "--json", str(out)]) == 0
    own, tiny = json.loads(out.read_text())["rows"]
    assert (own["codec"], tiny["codec"]) == ("own", "tiny")
    assert own["least_encode_ms"] != tiny["least_encode_ms"] and own["least_call_ms"] == tiny["least_call_ms"]
    assert own["peer_call_ms"] is None and "to_diffusers" not in own["shares"]


def test_a_model_of_this_machine_is_measured_with_its_own_policies(tiny_wan: Path, tmp_path: Path) -> None:  # noqa: F811
    out = tmp_path / "bench.json"
    asked = ["video", "--model", str(tiny_wan), *TINY[3:], "--steps", "2", "--scheduler", "clean_rerun", "--json", str(out)]
    assert main(asked) == 0
    figures = json.loads(out.read_text())
    (row,) = figures["rows"]
    assert figures["policies"].startswith("tiny-wan: ring, window 21")
    assert row["calls"] == 3 and row["paced"]["captured"] == 36  # three latent frames a chunk, three chunks
    assert row["shares"]["to_diffusers"] > 0


@pytest.mark.parametrize("name", ["wan-1.3b", "wan-14b"])
def test_the_large_shapes_are_the_published_ones(name: str) -> None:
    assert RANDOM_SHAPES[name] == SHAPES[name]
    meta = random_transformer(SHAPES[name], device=torch.device("meta"), dtype=torch.bfloat16)
    count = sum(weight.numel() for weight in meta.parameters())
    assert count / 1e9 == pytest.approx({"wan-1.3b": 1.419, "wan-14b": 14.29}[name], rel=0.002)
    exact = [weight.dtype for name, weight in meta.named_parameters() if "scale_shift_table" in name]
    assert set(exact) == {torch.float32}  # as diffusers keeps them


def test_published_rates_are_found_whichever_side_is_longer() -> None:
    assert published_fps("wan-1.3b", (832, 480), 2) == published_fps("wan-1.3b", (480, 832), 2) == 17.97
    assert published_fps("wan-14b", (512, 512), 4) == 8.26
    assert published_fps("wan-1.3b", (640, 480), 2) is None and published_fps("", (512, 512), 1) is None


def test_figures_of_pictures_that_are_no_numbers_are_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A stream that leaves pictures out would look quick."""
    monkeypatch.setattr(VideoStream, "problems", lambda self: ["pictures are left out"])
    assert main([*TINY, "--steps", "1", "--no-peer"]) == 2
    assert "pictures are left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["--steps", "5"], "1 to 4 steps"),
        (["--steps", "0"], "1 to 4 steps"),
        (["--policies", "krea-realtime-14b", "--scheduler", "stream_batch"], "does not go with"),
        (["--ceilings", "published"], "no data sheet"),
        (["--linears", "fp8"], "this run is on cpu"),
        (["--policies", "sd-turbo"], "image model"),
    ],
)
def test_a_mistake_is_one_line(asked: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, *asked]) == 2
    line = capsys.readouterr().err.strip()
    assert words in line and "\n" not in line
