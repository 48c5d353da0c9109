"""One record for each frame in flight, and the order in which finished frames come out."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from torch import Tensor

from engine.diffusion.guidance import Guidance
from engine.diffusion.schedule import Schedule
from engine.diffusion.stream_batch import RowPlan
from engine.frames import Frame, PixelFormat
from engine.models.text_encoder import PromptEmbedding


@dataclass(slots=True, eq=False)
class Slot:
    """A frame in flight with everything it entered with: a knob that turns later does not reach it.

    pixels: uint8 [1, H, W, C] until it has entered; format None: it enters without a picture.
    noise: float32 [steps, C, h, w], one a step.
    latent, reference, image: float32 [1, C, h, w], between steps. dry [1, 3, H, W], alpha [1, 1, H, W]: the input, fitted.
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
    pixels: Tensor | None = None
    format: PixelFormat | None = None
    step: int = 0
    latent: Tensor | None = None
    reference: Tensor | None = None
    image: Tensor | None = None
    dry: Tensor | None = None
    alpha: Tensor | None = None
    frame: Frame | None = None

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
    def has_picture(self) -> bool:
        """Whether it came with an input picture."""
        return self.format is not None

    @property
    def carries_alpha(self) -> bool:
        """Whether its picture has an alpha channel to keep."""
        return self.format is PixelFormat.BGRA

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
        while self._waiting and self._waiting[0].frame is not None:
            frame = self._waiting.popleft().frame
            assert frame is not None
            frames.append(frame)
        return frames

    def clear(self) -> None:
        """Forget all."""
        self._waiting.clear()


def alike(a: Slot, b: Slot) -> bool:
    """Whether two frames can enter in one call: pictures of one size and format, or none at all."""
    return a.format is b.format and (a.pixels is None) == (b.pixels is None) and _shape(a) == _shape(b)


def _shape(slot: Slot) -> tuple[int, ...]:
    return () if slot.pixels is None else tuple(slot.pixels.shape)


def keep(slot: Slot, row: int, out: dict[str, Tensor], *, entered: bool) -> None:
    """Write a call's results into the record of one frame."""
    slot.step += 1
    slot.latent, slot.reference = out["x_next"][row : row + 1], out["reference"][row : row + 1]
    if entered:
        slot.pixels = None
        slot.dry, slot.alpha, slot.image = (out[n][row : row + 1] if n in out else None for n in ("dry", "alpha", "image"))
