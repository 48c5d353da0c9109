"""What the bench of video streams measured of a case, and the tables of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

PUBLISHED_H100: Mapping[tuple[str, tuple[int, int]], tuple[float, float, float, float]] = {
    ("wan-1.3b", (480, 832)): (20.47, 17.97, 15.68, 13.95),
    ("wan-1.3b", (512, 512)): (26.21, 24.02, 21.51, 19.43),
    ("wan-14b", (480, 832)): (12.68, 8.64, 6.49, 5.28),
    ("wan-14b", (512, 512)): (18.71, 13.01, 10.09, 8.26),
}
"""Frames a second at 1 to 4 steps that StreamDiffusionV2's paper (Feng et al. 2025) gives for one H100, Wan's autoencoder both ways."""


def published_fps(shape: str, size: tuple[int, int], steps: int) -> float | None:
    """The published rate, whichever side is the longer; None where there is none."""
    known = PUBLISHED_H100.get((shape, (min(size), max(size))))
    return known[steps - 1] if known is not None and steps <= len(known) else None


@dataclass(frozen=True, slots=True)
class Paced:
    """A live run at a steady input rate. Seconds; latency is that of the oldest frame of a chunk, from capture to host."""

    input_fps: float
    first_frame: float | None
    latency_p50: float
    latency_p95: float
    jitter: float
    dropped: int
    captured: int


@dataclass(frozen=True, slots=True)
class VideoRow:
    """One case. Milliseconds: one denoiser call of `rows` rows; a chunk's encode and decode; from the first pictures being there to the
    first that is finished. least_...: what the roofline allows. peer_call_ms: diffusers' own forward over the whole window.
    memory_gb: the most that was allocated on a GPU, what the process holds on a CPU.
    """

    codec: str
    scheduler: str
    steps: int
    graph: bool
    rows: int
    calls: int
    fps: float
    call_ms: float
    encode_ms: float
    decode_ms: float
    first_ms: float
    paced: Paced
    memory_gb: float
    least_call_ms: float
    least_encode_ms: float
    least_decode_ms: float
    least_fps: float
    peer_call_ms: float | None = None
    published_h100_fps: float | None = None
    shares: dict[str, float] = field(default_factory=dict)


def with_shares(row: VideoRow) -> dict[str, float]:
    """Measured against the roofline, 1 is at it; against diffusers (for each row of a call) and the published rate, more is quicker."""
    shares = {
        "call": row.least_call_ms / row.call_ms,
        "codec": (row.least_encode_ms + row.least_decode_ms) / (row.encode_ms + row.decode_ms),
        "fps": row.fps / row.least_fps,
    }
    if row.peer_call_ms is not None:
        shares["to_diffusers"] = row.peer_call_ms / (row.call_ms / row.rows)
    if row.published_h100_fps is not None:
        shares["to_published_h100"] = row.fps / row.published_h100_fps
    return shares


def show(console: Console, facts: Mapping[str, object], rows: Sequence[VideoRow]) -> None:
    """The facts, what was measured, and the same beside the roofline."""
    apart = ("command", "machine", "ceilings", "data_sheet")
    console.print("  ".join(f"{name} {value}" for name, value in facts.items() if name not in apart))
    console.print(f"ceilings {facts['ceilings']}")
    measured = Table("case", "steps", "fps", "DiT ms", "encode", "decode", "first ms", "live: first s", "p50 / p95 ms", "jitter ms",
        "dropped", "memory GB")  # fmt: skip
    beside = Table("case", "steps", "DiT least ms", "of it", "codec least ms", "of it", "fps most", "of it", "to diffusers", "to one H100")
    for table in (measured, beside):
        table.columns[0].no_wrap = True
    for row in rows:
        case = f"{row.codec}, {row.scheduler}{', graph' if row.graph else ''}"
        calls = f"{row.call_ms:.1f}" + (f" x{row.calls}" if row.calls > 1 else "") + (f" ({row.rows} rows)" if row.rows > 1 else "")
        paced = row.paced
        first = "-" if paced.first_frame is None else f"{paced.first_frame:.2f}"
        measured.add_row(
            case, str(row.steps), f"{row.fps:.2f}", calls, f"{row.encode_ms:.1f}", f"{row.decode_ms:.1f}", f"{row.first_ms:.0f}",
            first, f"{1000 * paced.latency_p50:.0f} / {1000 * paced.latency_p95:.0f}",
            f"{1000 * paced.jitter:.1f}", f"{paced.dropped}/{paced.captured}", f"{row.memory_gb:.2f}",
        )  # fmt: skip
        share = {name: f"{100 * value:.0f} %" for name, value in row.shares.items()}
        ratio = {name: f"{value:.2f}x" for name, value in row.shares.items()}
        published = "" if row.published_h100_fps is None else f"{row.published_h100_fps:g}: {ratio['to_published_h100']}"
        beside.add_row(
            case, str(row.steps), f"{row.least_call_ms:.2f}", share["call"], f"{row.least_encode_ms + row.least_decode_ms:.2f}",
            share["codec"], f"{row.least_fps:.1f}", share["fps"], ratio.get("to_diffusers", ""), published,
        )  # fmt: skip
    console.print(measured)
    console.print(beside)
