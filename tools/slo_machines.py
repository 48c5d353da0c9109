"""Stage times of GPUs for `simulate_slo.py`: of an H200 as measured by us, of the others worked out from published figures.

Wan 1.3B or 14B, one latent frame (4 pictures) a chunk, in milliseconds. Measured ones are in docs/benchmarks/README.md; through the
calls of 1, 2 and 4 rows a line is drawn. Published ones: from the frames a second of StreamDiffusionV2's paper (Feng et al. 2025) a
chunk takes 4 / fps; what every further sequential step adds is one denoiser call, what every further step of a stream batch adds is
one row of it, and the rest is the codec, shared out as its operations are (8.05 : 13.55).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.video.slo import ChunkPlan
from engine.video.slo_costs import StageTimes

ENCODE_SHARE = 8.05 / (8.05 + 13.55)


@dataclass(frozen=True, slots=True)
class Machine:
    """A GPU with a model at a size. Milliseconds: encode and decode of a latent frame, overhead of a denoiser call, each of its rows."""

    name: str
    encode: float
    overhead: float
    row: float
    decode: float
    source: str

    def times(self, plan: ChunkPlan, factor: float = 1.0) -> StageTimes:
        """Seconds of a chunk's stages under `plan`, all times `factor`."""
        scale = factor / 1000.0
        return StageTimes(
            encode=scale * plan.chunk * self.encode,
            forward=scale * (self.overhead + self.row * plan.chunk * plan.rows),
            decode=scale * plan.chunk * self.decode,
        )


def from_fps(name: str, source: str, *, one: float, four_sequential: float, four_batched: float | None = None) -> Machine:
    """From frames a second at one step, at four sequential steps, at four steps in a batch (None: a row is a whole call)."""
    chunk, sequential = 4000.0 / one, 4000.0 / four_sequential
    call = (sequential - chunk) / 3
    row = call if four_batched is None else (4000.0 / four_batched - chunk) / 3
    codec = chunk - call
    return Machine(name, encode=ENCODE_SHARE * codec, overhead=call - row, row=row, decode=(1 - ENCODE_SHARE) * codec, source=source)


def from_calls(name: str, source: str, *, calls: Mapping[int, float], encode: float, decode: float) -> Machine:
    """From measured milliseconds of calls of so many rows: the line through them with the least squares."""
    row, overhead = np.polyfit(list(calls), list(calls.values()), 1)
    return Machine(name, encode=encode, overhead=float(overhead), row=float(row), decode=decode, source=source)


PAPER = "StreamDiffusionV2, figures of one GPU with and without stream batch"
SCOPE = "an independent run of the same code on Windows, two sequential steps; overhead by the line through three sizes"
MEASURED = "measured by us (docs/benchmarks/README.md): bfloat16, captured graphs, random weights, "
H200_CALLS = {1: 27.4, 2: 46.1, 4: 87.5}
"""Milliseconds of a denoiser call by its rows on one H200, Wan 1.3B at 480x832."""
MACHINES = (
    from_calls("H200, 1.3B 480x832, TAEHV", MEASURED + "TAEHV both ways", calls=H200_CALLS, encode=3.4, decode=4.4),
    from_calls("H200, 1.3B 480x832", MEASURED + "Wan's autoencoder", calls=H200_CALLS, encode=43.2, decode=73.7),
    from_fps("H100, 1.3B 512x512", PAPER, one=26.21, four_sequential=12.43, four_batched=19.43),
    from_fps("H100, 1.3B 480x832", PAPER, one=20.47, four_sequential=10.86, four_batched=13.95),
    Machine("RTX 5090, 1.3B 512x512", encode=66.0, overhead=50.4, row=22.6, decode=110.0, source=SCOPE),
    from_fps("RTX 4090, 1.3B 512x512", PAPER + "; no batch published", one=12.87, four_sequential=7.87),
    from_fps("RTX 4090, 1.3B 480x832", PAPER + "; no batch published", one=8.58, four_sequential=5.59),
    Machine("H100, 14B 480x832", encode=51.4, overhead=30.3, row=147.4, decode=86.4, source=PAPER + "; codec as with 1.3B"),
)


def read_machines(path: Path) -> tuple[Machine, ...]:
    """Recorded stage times: a JSON list of objects with the fields of Machine. Raises ValueError with what is wrong."""
    entries = json.loads(path.read_text(encoding="utf-8"))
    try:
        return tuple(Machine(**entry) for entry in entries)
    except TypeError as error:
        wanted = "a list of objects with name, encode, overhead, row, decode (milliseconds) and source"
        raise ValueError(f"{path}: {wanted} is wanted: {error}") from error
