"""Steadying: what flickers between finished pictures, though the input explains no change, is averaged along its motion.

A video restyled frame by frame flickers. Each picture is blended with the steadied one before it, moved by the optical flow between the
two inputs, where that flow explains the input (after Bonneel et al. 2015, "Blind video temporal consistency", and Lai et al.
2018, "Learning blind video temporal consistency"; here without any optimisation or network). With a share `a` of the past, noise
that is new in each frame keeps sqrt((1 - a) / (1 + a)) of its deviation. At cuts and where something comes into view `a` is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.control.live_values import Snapshot
from engine.control.parameter import Kind, Value
from engine.control.table import TABLE
from engine.frames import Frame, Pixels
from engine.gpu.transfer import Transfer
from engine.images.flow import luminance, motion
from engine.images.warp import blend_moved
from engine.models.text_encoder import PromptEmbedding

STRONGEST = 0.8
"""Share of the past at steadiness 1: noise keeps a third, and each picture is resampled about four times on the mean."""
A_JUMP = 0.1
"""A knob that goes this part of its range, or more, from one frame to the next starts the picture afresh; slower turning blends the
less, so that the picture never lags behind a hand."""

_AFTERWARDS = ("mix", "steadiness", "reset", "without_input", "frame_buffer", "stream_batch")
_SHAPING = tuple(
    row
    for row in TABLE
    if row.name not in _AFTERWARDS
    and (row.group in ("diffusion", "guidance", "noise", "picture") or row.name == "prompt_blend" or row.name.endswith("_weight"))
)


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What a frame in flight carries along to be steadied: its input's luminance uint8 [h, w] and what it was asked for."""

    index: int
    grey: Pixels
    seconds: float
    fade: float
    asked: tuple[Value, ...]
    prompt: PromptEmbedding
    negative: PromptEmbedding | None


def trace_of(
    shown: Frame,
    values: Snapshot,
    *,
    size: tuple[int, int],
    index: int,
    prompt: PromptEmbedding,
    negative: PromptEmbedding | None,
) -> Trace | None:
    """The trace of a frame that enters with the input `shown`, at the model's size (width, height); None at steadiness 0."""
    if values.number("steadiness") <= 0.0:
        return None
    return Trace(
        index=index,
        grey=luminance(shown.pixels, shown.format, *size, values.text("fit")),
        seconds=values.seconds,
        fade=values.number("prompt_fade"),
        asked=tuple(values.values[row.name] for row in _SHAPING),
        prompt=prompt,
        negative=negative,
    )


def turned(before: Trace, now: Trace) -> float:
    """How far was turned from one frame to the next what shapes the picture, as part of its range: 0 nothing, 1 wholly."""
    if now.negative is not before.negative:
        return 1.0
    most = 0.0
    weighted = False
    for row, old, new in zip(_SHAPING, before.asked, now.asked, strict=True):
        if old == new:
            continue
        if row.kind is not Kind.FLOAT:
            return 1.0
        most = max(most, abs(row.to_unit_interval(float(new)) - row.to_unit_interval(float(old))))  # type: ignore[arg-type]
        weighted |= row.group == "prompt"
    if now.prompt is not before.prompt and not weighted:
        # The texts are fading: by so much of the whole way.
        passed = now.seconds - before.seconds
        most = max(most, min(passed / now.fade, 1.0) if now.fade > 0.0 else 1.0)
    return most


class Steadying:
    """The steadied picture of the frame before, and the next ones blended with it. For one stream.

    The motion is sought on the host while the device still makes the picture, and goes to it as a small tensor: nothing waits.
    """

    def __init__(self, transfer: Transfer) -> None:
        self._transfer = transfer
        self.reset()

    def reset(self) -> None:
        """Forget the picture: the next one is shown as it comes."""
        self._last: tuple[Trace, Tensor] | None = None

    def __call__(self, pictures: Tensor, traces: Sequence[Trace | None], amount: float) -> Tensor:
        """Pictures [F, 3, H, W] of neighbouring frames, newest first, steadied by `amount` in [0, 1]; those without a trace as they are."""
        steadied = [self._one(pictures[i : i + 1], traces[i], amount) for i in reversed(range(len(traces)))]
        return torch.cat(steadied[::-1]).to(pictures.dtype)

    def _one(self, picture: Tensor, trace: Trace | None, amount: float) -> Tensor:
        if trace is None:
            self.reset()
            return picture
        new = picture.to(torch.float32)
        if self._last is not None:
            before, last = self._last
            if trace.index <= before.index:
                return new  # it took more steps than one that entered after it, which is shown later all the same
            new = self._blended(new, last, before, trace, amount)
        self._last = (trace, new)
        return new

    def _blended(self, new: Tensor, last: Tensor, before: Trace, now: Trace, amount: float) -> Tensor:
        share = STRONGEST * amount * max(1.0 - turned(before, now) / A_JUMP, 0.0)
        if share == 0.0 or last.shape != new.shape or before.grey.shape != now.grey.shape:
            return new
        found = motion(now.grey, before.grey)
        if found is None:
            return new
        found[2] *= share
        return blend_moved(new, last, self._transfer.numbers(torch.from_numpy(found[None])))
