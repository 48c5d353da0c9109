"""The soak tool: a short real run, and whether growth would be seen."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import soak

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = soak.Sample(seconds=2.0, bridge_bytes=50 << 20, engine_bytes=60 << 20, handles=40, threads=9, segments=3)


def test_a_short_run_is_clean_and_prints_json() -> None:
    command = [sys.executable, str(ROOT / "tools" / "soak.py"), "--seconds", "2", "--size", "128x64", "--fps", "100"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["size"] == "128x64"
    assert result["fps_out"] > 0 and result["backwards"] == result["restarts"] == result["left_behind"] == 0
    assert 0.0 < result["latency_p50_ms"] <= result["latency_p95_ms"] <= result["latency_p99_ms"]
    assert len(result["samples"]) == 2
    assert done.returncode == (1 if result["grew"] else 0), done.stderr


@pytest.mark.parametrize(
    ("change", "grows"),
    [
        ({"handles": 41}, True),
        ({"segments": 4}, True),
        ({"threads": 10}, True),
        ({"bridge_bytes": 67 << 20}, True),
        ({"engine_bytes": 77 << 20}, True),
        ({"bridge_bytes": 51 << 20, "seconds": 60.0}, False),
        ({"handles": 39}, False),
    ],
)
def test_growth_is_seen(change: dict[str, float], grows: bool) -> None:
    assert bool(soak.growth([SAMPLE, dataclasses.replace(SAMPLE, **change)])) is grows  # type: ignore[arg-type]


def test_a_bad_size_is_refused() -> None:
    with pytest.raises(SystemExit):
        soak.main(["--size", "huge"])
