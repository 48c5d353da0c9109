"""What a bench measured of a case, and the table of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one case; times in milliseconds, latency from bytes in to bytes out of the same frame.

    ratio: to diffusers' fps; to_eager: to the fps of the same stream in eager torch.
    """

    case: str
    steps: int
    fps: float
    latency_p50: float
    latency_p95: float
    latency_p99: float
    stage_ms: dict[str, float]
    ratio: float | None = None
    to_eager: float | None = None
    warm_up_seconds: float = 0.0


def show(console: Console, facts: dict[str, object], rows: Sequence[Row]) -> None:
    """The table."""
    console.print("  ".join(f"{name} {value}" for name, value in facts.items() if name not in ("command", "machine")))
    table = Table("case", "steps", "fps", "p50 ms", "p95 ms", "p99 ms", "stages ms", "to diffusers", "to eager", "warm-up s")
    for row in rows:
        stages = "  ".join(f"{name} {ms:.1f}" for name, ms in row.stage_ms.items())
        ratios = ["" if ratio is None else f"{ratio:.2f}x" for ratio in (row.ratio, row.to_eager)]
        figures = (f"{row.fps:.2f}", f"{row.latency_p50:.1f}", f"{row.latency_p95:.1f}", f"{row.latency_p99:.1f}")
        table.add_row(row.case, str(row.steps), *figures, stages, *ratios, f"{row.warm_up_seconds:.1f}")
    console.print(table)
