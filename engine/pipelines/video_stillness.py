"""Which chunks of a video stream may be skipped: all their frames resemble the last one that was made, and nobody turned anything."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from engine.control.live_values import Snapshot
from engine.control.parameter import Value
from engine.control.table import TABLE
from engine.images.similarity import Thumbnail, likeness, skip_probability

SHAPING = tuple(
    row.name for row in TABLE if row.group in ("prompt", "diffusion", "guidance", "noise", "video", "picture") and row.name != "reset"
)
"""Parameters that change the picture; a chunk after a change is always made."""


class ChunkStillness:
    """The similarity filter (Kodaira et al. 2023) over chunks: the frame that resembles the last picture the least decides."""

    def __init__(self) -> None:
        self.skipped = 0
        """Frames of chunks that were left out, since the beginning."""
        self.reset()

    def reset(self) -> None:
        """The next chunk is made."""
        self._last: Thumbnail | None = None
        self._asked: tuple[Value, ...] = ()
        self._in_a_row = self._draws = 0

    def admits(self, smalls: Sequence[Thumbnail | None], values: Snapshot, *, settled: bool) -> bool:
        """Whether the chunk of these frames is to be made. settled: whether the last chunk showed the prompt of now."""
        known = [small for small in smalls if small is not None]
        still = values.text("mode") == "image_to_image" and values.text("seed_mode") != "travel" and settled
        asked = tuple(values.values[name] for name in SHAPING)
        if values.toggle("similarity_filter") and len(known) == len(smalls) and still and asked == self._asked and self._last is not None:
            most = values.whole("similarity_max_skip")
            least = min(likeness(small, self._last) for small in known)
            if self._in_a_row + len(known) <= most and self._draw() < skip_probability(least, values.number("similarity_threshold")):
                self._in_a_row += len(known)
                self.skipped += len(known)
                return False
        self._asked, self._last, self._in_a_row = asked, smalls[-1], 0
        return True

    def _draw(self) -> float:
        """A number in [0, 1) that depends on how many were drawn and on nothing else."""
        self._draws += 1
        return float(torch.rand((), generator=torch.Generator("cpu").manual_seed(self._draws)))
