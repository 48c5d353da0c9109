"""Stage times of GPUs for `simulate_slo.py`, worked out from published figures; nothing here was measured by us.

Wan 1.3B or 14B, one latent frame (4 pictures) a chunk, in milliseconds. From the frames a second of StreamDiffusionV2's paper
(Feng et al. 2025) a chunk takes 4 / fps; what every further sequential step adds is one denoiser call, what every further step of
a stream batch adds is one row of it, and the rest is the codec, shared out as its operations are (8.05 : 13.55).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

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


PAPER = "StreamDiffusionV2, figures of one GPU with and without stream batch"
SCOPE = "an independent run of the same code on Windows, two sequential steps; overhead by the line through three sizes"
ROOFLINE = "projected, not measured: half of the roofline (790 TFLOP/s) with captured graphs and TAEHV both ways"
MACHINES = (
    Machine("H200 at half its roofline, 1.3B 480x832", encode=2.0, overhead=0.5, row=16.6, decode=3.0, source=ROOFLINE),
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
