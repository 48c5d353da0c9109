"""When a frame may be skipped: it resembles the last one computed, and nobody has turned anything since."""

from __future__ import annotations

import torch

from engine.control.live_values import Snapshot
from engine.control.parameter import Value
from engine.control.table import TABLE
from engine.frames import Frame
from engine.images.similarity import SimilarityFilter, thumbnail
from engine.models.text_encoder import PromptEmbedding

SHAPING = tuple(row.name for row in TABLE if row.group in ("diffusion", "guidance", "noise", "picture") and row.name != "reset")
"""Parameters that change the picture; a frame after a change is always computed."""


class Stillness:
    """The similarity filter over a live stream; from the bytes on the host, so no device is asked."""

    def __init__(self) -> None:
        self._filter = SimilarityFilter()
        self._asked: tuple[Value, ...] = ()
        self._prompt: PromptEmbedding | None = None
        self._draws = 0

    def reset(self) -> None:
        """Forget the last frame; the next one is computed."""
        self._filter.reset()
        self._draws = 0

    def admits(self, frame: Frame, values: Snapshot, prompt: PromptEmbedding) -> bool:
        """Whether the frame is to be computed. prompt: the embedding of this moment, another object while it fades."""
        still = values.text("mode") == "image_to_image" and values.text("seed_mode") == "fixed"
        if not (values.toggle("similarity_filter") and still):
            return True
        asked = tuple(values.values[name] for name in SHAPING)
        if asked != self._asked or prompt is not self._prompt:
            self._asked, self._prompt = asked, prompt
            self._filter.reset()
        return self._filter.admit(
            thumbnail(frame.pixels, frame.format),
            threshold=values.number("similarity_threshold"),
            max_skip=values.whole("similarity_max_skip"),
            draw=self._draw(),
        )

    def _draw(self) -> float:
        """A number in [0, 1) that depends on how many were drawn and on nothing else."""
        self._draws += 1
        return float(torch.rand((), generator=torch.Generator("cpu").manual_seed(self._draws)))
