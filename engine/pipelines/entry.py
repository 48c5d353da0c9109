"""How the values of a moment become a slot: schedule, guidance, prompts and noise that a frame enters with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from engine.control.live_values import Snapshot
from engine.diffusion.guidance import Guidance, effective
from engine.diffusion.schedule import NoiseCurve, schedule_of
from engine.frames import Frame, PixelFormat
from engine.images.pixel_formats import to_rgb
from engine.images.resize import fit
from engine.models.text_encoder import PromptEmbedding
from engine.pipelines.slots import Slot

GUIDANCES: dict[str, Guidance] = {"none": "none", "self": "self", "onetime": "onetime", "full": "full"}


class Prompts(Protocol):
    """Where embeddings come from."""

    def positive(self, values: Snapshot) -> PromptEmbedding:
        """The embedding of the prompts at this moment."""
        ...

    def negative(self, values: Snapshot) -> PromptEmbedding:
        """The embedding of the negative prompt."""
        ...


class Noises(Protocol):
    """Where noise comes from."""

    def of_frame(self, values: Snapshot, *, count: int, shape: tuple[int, ...]) -> Tensor:
        """Float32 noise [steps, C, h, w] for the `count`-th frame."""
        ...


class Entry:
    """Makes slots. Counts the frames that came in.

    curve: from the step method ("consistency" or "euler") to the model's noise curve. step_method: what `auto` stands for.
    latent_shape: from (width, height) to (C, h, w). multiple: pixels a side must be a multiple of this. dtype: of pictures.
    """

    def __init__(
        self,
        prompts: Prompts,
        noises: Noises,
        curve: Callable[[str], NoiseCurve],
        *,
        step_method: str,
        latent_shape: Callable[[int, int], tuple[int, int, int]],
        multiple: int,
        dtype: torch.dtype,
        values: Snapshot,
    ) -> None:
        self._prompts = prompts
        self._noises = noises
        self._dtype = dtype
        self._curve = curve
        self._step_method = step_method
        self._latent_shape = latent_shape
        self._multiple = multiple
        self.reset()
        self.resize(values)

    def reset(self) -> None:
        """Count frames from 0 again, so that the same input gives the same noise."""
        self._count = 0
        self._next_index = 0

    def size_of(self, values: Snapshot) -> tuple[int, int]:
        """(width, height) that the values ask for, rounded to what the model can take."""
        width, height = (
            max(self._multiple, round(values.whole(name) / self._multiple) * self._multiple) for name in ("width", "height")
        )
        return width, height

    def resize(self, values: Snapshot) -> None:
        """Work at the size that the values ask for from now on."""
        self.size = self.size_of(values)

    def prompt(self, values: Snapshot) -> PromptEmbedding:
        """The embedding of the prompts at this moment."""
        return self._prompts.positive(values)

    def picture(self, pixels: Tensor, layout: PixelFormat, values: Snapshot) -> tuple[Tensor, Tensor | None]:
        """uint8 [1, H, W, C] on the device as RGB [1, 3, h, w] in [-1, 1] and alpha, fitted to the size of the model."""
        width, height = self.size
        rgb, alpha = to_rgb(pixels, layout, self._dtype)
        mode = values.text("fit")
        return fit(rgb, width, height, mode), None if alpha is None else fit(alpha, width, height, mode, bars=1.0)

    def slot(self, frame: Frame | None, values: Snapshot, *, now: float) -> Slot:
        """A record for `frame`; without one it is dated `now`. Indices only grow, also where frames and dreams take turns."""
        method = values.text("step_method")
        method = self._step_method if method == "auto" else method
        schedule = schedule_of(
            self._curve(method),
            strength=1.0 if values.text("mode") == "text_to_image" else values.number("strength"),
            steps=values.whole("steps"),
            step_list=values.whole_numbers("step_list"),
        )
        kind = effective(GUIDANCES[values.text("guidance")], values.number("guidance_scale"))
        index = self._next_index if frame is None else max(frame.index, self._next_index)
        slot = Slot(
            index=index,
            captured_at=now if frame is None else frame.captured_at,
            schedule=schedule,
            guidance=kind,
            guidance_scale=values.number("guidance_scale"),
            delta=values.number("delta"),
            renoise=values.toggle("add_noise"),
            euler=method == "euler",
            prompt=self._prompts.positive(values),
            negative=self._prompts.negative(values) if kind in ("onetime", "full") else None,
            noise=self._noises.of_frame(
                values, count=self._count, shape=(len(schedule), *self._latent_shape(*self.size))
            ),
        )
        self._count += 1
        self._next_index = index + 1
        return slot
