"""A soak run: frames through both processes at full speed, without a model, and whether anything grows meanwhile.

    python tools/soak.py --seconds 600 --size 1280x720 --fps 60

Prints a table and one line of JSON. Exit status 1 if handles, shared memory or resident memory grew, frames came out of
order, or something was left behind.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bridge.supervisor import EngineProcess
from engine import segments
from engine.clock import MonotonicClock
from engine.control.live_values import LiveValues
from engine.frames import PixelFormat
from engine.settings import PASSTHROUGH, Settings, parse_size

SETTLE_SECONDS = 2.0
"""Until the first measurement, so that what is loaded once is not called growth."""
SAMPLE_SECONDS = 60.0
ALLOWED_GROWTH_BYTES = 16 * 2**20
LATENCIES_KEPT = 200_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """What both processes hold at one moment. handles: open files of both; segments: names in shared memory."""

    seconds: float
    bridge_bytes: int
    engine_bytes: int
    handles: int
    threads: int
    segments: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Soak:
    """The result. latency: milliseconds from captured_at to the finished frame in the bridge's hands."""

    size: str
    seconds: float
    fps_in: float
    fps_out: float
    dropped: int
    latency_p50_ms: float
    latency_p95_ms: float
    latency_p99_ms: float
    load_average: float
    restarts: int
    backwards: int
    left_behind: int
    samples: tuple[Sample, ...]
    grew: tuple[str, ...]


class Taker:
    """A thread that takes finished frames and measures; the latencies are kept in a buffer of fixed size."""

    def __init__(self, engine: EngineProcess) -> None:
        self._engine = engine
        self._latencies = np.zeros(LATENCIES_KEPT)
        self.count = self.backwards = 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        last = -1
        while not self.ended.is_set():
            self._engine.finished.wait(0.1)
            frame = self._engine.finished.newest()
            if frame is None:
                continue
            self._latencies[self.count % LATENCIES_KEPT] = time.monotonic() - frame.captured_at
            self.count += 1
            self.backwards += frame.index <= last
            last = frame.index

    def percentiles(self) -> tuple[float, float, float]:
        """50, 95 and 99 % of the latest latencies, milliseconds."""
        kept = self._latencies[: min(self.count, LATENCIES_KEPT)]
        p50, p95, p99 = np.percentile(kept, (50, 95, 99)) * 1e3 if len(kept) else (0.0,) * 3
        return float(p50), float(p95), float(p99)


def sample(began: float, engine_pid: int) -> Sample:
    """Look at both processes now."""
    processes = [psutil.Process(), psutil.Process(engine_pid)]
    return Sample(
        seconds=round(time.monotonic() - began, 1),
        bridge_bytes=processes[0].memory_info().rss,
        engine_bytes=processes[1].memory_info().rss,
        handles=sum(open_handles(process) for process in processes),
        threads=sum(process.num_threads() for process in processes),
        segments=len(own_segments()),
    )


def own_segments() -> list[str]:
    """Those of this run; others may be running beside it."""
    return [name for name in segments.present() if f"_{os.getpid()}_" in name]


def open_handles(process: psutil.Process) -> int:
    """Files, pipes and whatever else the system counts."""
    if sys.platform == "win32":
        return process.num_handles()
    return process.num_fds()


def growth(samples: Sequence[Sample]) -> tuple[str, ...]:
    """What the last sample has more of than the first, in words."""
    first, last = samples[0], samples[-1]
    grew = [
        f"{name}: {getattr(first, name)} -> {getattr(last, name)}"
        for name in ("handles", "threads", "segments")
        if getattr(last, name) > getattr(first, name)
    ]
    for name in ("bridge_bytes", "engine_bytes"):
        if getattr(last, name) > getattr(first, name) + ALLOWED_GROWTH_BYTES:
            grew.append(f"{name}: {getattr(first, name)} -> {getattr(last, name)}")
    return tuple(grew)


def feed(engine: EngineProcess, *, size: tuple[int, int], fps: float, began: float, seconds: float) -> list[Sample]:
    """Put frames until `seconds` are over: at `fps`, or (0) the next as soon as the last was taken."""
    clock = MonotonicClock()
    pictures = [np.full((size[1], size[0], 4), shade, np.uint8) for shade in (0, 85, 170, 255)]
    samples: list[Sample] = []
    index, sample_at, due = 0, began + min(SETTLE_SECONDS, seconds / 2), began
    while (now := clock.now()) < began + seconds:
        if now >= sample_at:
            samples.append(sample(began, engine.pid))
            sample_at += SAMPLE_SECONDS
        engine.put(PixelFormat.BGRA, pictures[index % 4], clock.now(), index)
        index += 1
        if fps:
            due = max(due + 1.0 / fps, now - 1.0 / fps)
            clock.sleep_until(due)
        else:
            wait_until_taken(engine, index)
    return [*samples, sample(began, engine.pid)]


def wait_until_taken(engine: EngineProcess, put: int) -> None:
    """Back-pressure that a live source does not have: full speed then means what the engine can take."""
    until = time.monotonic() + 0.1
    while (facts := engine.facts()).frames_in + facts.dropped < put and time.monotonic() < until:
        time.sleep(0.0001)


def soak(*, seconds: float, size: tuple[int, int], fps: float) -> Soak:
    """The whole run."""
    engine = EngineProcess(Settings(model=PASSTHROUGH), LiveValues(), frame_bytes=size[0] * size[1] * 4)
    engine.start()
    taker = Taker(engine)
    try:
        wait_until_running(engine)
        taker.thread.start()
        came_in, began = engine.facts().frames_in, time.monotonic()
        samples = feed(engine, size=size, fps=fps, began=began, seconds=seconds)
        took, facts = time.monotonic() - began, engine.facts()
    finally:
        taker.ended.set()
        engine.stop()
    left = len(own_segments())
    p50, p95, p99 = taker.percentiles()
    return Soak(
        size=f"{size[0]}x{size[1]}",
        seconds=round(took, 1),
        fps_in=round((facts.frames_in - came_in) / took, 1),
        fps_out=round(taker.count / took, 1),
        dropped=facts.dropped,
        latency_p50_ms=round(p50, 3),
        latency_p95_ms=round(p95, 3),
        latency_p99_ms=round(p99, 3),
        load_average=round(psutil.getloadavg()[0], 2),
        restarts=facts.restarts,
        backwards=taker.backwards,
        left_behind=left,
        samples=tuple(samples),
        grew=growth(samples),
    )


def wait_until_running(engine: EngineProcess, timeout_seconds: float = 60.0) -> None:
    """Until the engine takes frames. Raises RuntimeError with its error if it does not."""
    until = time.monotonic() + timeout_seconds
    while engine.facts().state not in ("running", "waiting"):
        if time.monotonic() > until or engine.facts().state == "failed":
            raise RuntimeError(f"the engine did not start: {engine.facts().error}")
        time.sleep(0.02)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, say by the exit status whether all was well."""
    parser = argparse.ArgumentParser(description="frames through both processes at full speed; does anything grow?")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--size", type=parse_size, default=(512, 512), help="WIDTHxHEIGHT")
    parser.add_argument("--fps", type=float, default=0.0, help="0: as fast as the engine takes frames")
    options = parser.parse_args(arguments)
    result = soak(seconds=options.seconds, size=options.size, fps=options.fps)
    for name, value in asdict(result).items():
        if name != "samples":
            print(f"{name:>16}  {value}")
    for row in result.samples:
        print("          sample ", "  ".join(f"{name} {value}" for name, value in asdict(row).items()))
    print(json.dumps(asdict(result)))
    return 1 if result.grew or result.backwards or result.left_behind else 0


if __name__ == "__main__":
    sys.exit(main())
