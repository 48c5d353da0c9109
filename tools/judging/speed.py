"""Frames a second of the running program's own stream, measured by tools/bench.py in a process of its own for each runtime."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from engine.settings import ACCELERATIONS

from .report import Cell, Figures

ROOT = Path(__file__).resolve().parents[2]
SIZES = (256, 512)
FRAMES = 60


def measured(model: Path, *, accelerate: str, side: int, threads: int) -> tuple[list[dict[str, object]], str]:
    """Rows of one run of the benchmark; none, and the last line it said, where the runtime cannot run here."""
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "bench.json"
        command = [sys.executable, str(ROOT / "tools" / "bench.py"), "image", "--model", str(model.resolve()), "--size", f"{side}x{side}"]
        command += ["--steps", "1,2,4", "--device", "cpu", "--dtype", "auto", "--accelerate", accelerate, "--threads", str(threads)]
        command += ["--frames", str(FRAMES), "--no-peer", "--json", str(figures)]
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
        if done.returncode or not figures.exists():
            return [], (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        rows: list[dict[str, object]] = json.loads(figures.read_text(encoding="utf-8"))["rows"]
        return rows, ""


def speeds(model: Path, *, threads: int) -> Figures:
    """Every runtime that the engine's settings name (`auto` changes between two of them), at 256 and 512 pixels and 1, 2 and 4 steps."""
    rows: list[list[Cell]] = []
    notes = []
    for accelerate in (name for name in ACCELERATIONS if name != "auto"):
        for side in SIZES:
            found, problem = measured(model, accelerate=accelerate, side=side, threads=threads)
            if problem:
                notes.append(f"accelerate {accelerate} at {side}: {problem}")
            for row in found:
                fps, p50 = float(str(row["fps"])), float(str(row["latency_p50"]))
                rows.append([accelerate, side, str(row["steps"]), f"{fps:.1f}", f"{p50:.1f}", str(row["case"])])
    heads = ("accelerate", "pixels", "steps", "fps", "latency p50 ms", "case")
    return Figures(f"Speed of the stream, {threads} CPU threads", heads, rows, notes)
