"""One record for each frame in flight, and the order in which finished frames come out."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from torch import Tensor

from engine.diffusion.guidance import Guidance
from engine.diffusion.schedule import Schedule
from engine.diffusion.stream_batch import RowPlan
from engine.frames import Frame
from engine.models.text_encoder import PromptEmbedding
from engine.pipelines.steadying import Trace


@dataclass(slots=True, eq=False)
class Slot:
    """A frame in flight with what it entered with: a knob of its denoising that turns later does not reach it.

    noise: float32 [steps, C, h, w], one a step. latent, reference, image: float32 [1, C, h, w], between steps.
    dry [1, 3, H, W], alpha [1, 1, H, W]: the input, fitted; None: it entered without a picture, or without an alpha channel.
    trace: what it is steadied by; None: it is not. frame: the finished picture; lost: there is none, as the model gave no numbers for it.
    """

    index: int
    captured_at: float
    schedule: Schedule
    guidance: Guidance
    guidance_scale: float
    delta: float
    renoise: bool
    euler: bool
    prompt: PromptEmbedding
    negative: PromptEmbedding | None
    noise: Tensor
    step: int = 0
    latent: Tensor | None = None
    reference: Tensor | None = None
    image: Tensor | None = None
    dry: Tensor | None = None
    alpha: Tensor | None = None
    trace: Trace | None = None
    frame: Frame | None = None
    lost: bool = False

    @property
    def plan(self) -> RowPlan:
        """What the next call does with it."""
        return RowPlan(
            schedule=self.schedule,
            step=self.step,
            guidance=self.guidance,
            guidance_scale=self.guidance_scale,
            delta=self.delta,
            renoise=self.renoise,
            euler=self.euler,
        )

    @property
    def next_noise(self) -> Tensor:
        """The noise of the step after the next call, [1, C, h, w]; the last step has none and its own stands in."""
        place = min(self.step + 1, len(self.schedule) - 1)
        return self.noise[place : place + 1]

    @property
    def denoised(self) -> bool:
        """Whether all its steps are done."""
        return self.step >= len(self.schedule)


class EmissionOrder:
    """Finished frames come out in the order in which they went in, even if a later one needed fewer steps."""

    def __init__(self) -> None:
        self._waiting: deque[Slot] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def enter(self, slot: Slot) -> None:
        """Remember its place."""
        self._waiting.append(slot)

    def ready(self) -> list[Frame]:
        """Take the frames that may come out now, oldest first."""
        frames = []
        while self._waiting and (self._waiting[0].frame is not None or self._waiting[0].lost):
            frame = self._waiting.popleft().frame
            if frame is not None:
                frames.append(frame)
        return frames

    def clear(self) -> None:
        """Forget all."""
        self._waiting.clear()


def keep(slot: Slot, row: int, out: dict[str, Tensor], *, entered: bool) -> None:
    """Write a call's results into the record of one frame."""
    slot.step += 1
    slot.latent, slot.reference = out["x_next"][row : row + 1], out["reference"][row : row + 1]
    if entered and "image" in out:
        slot.image = out["image"][row : row + 1]
