"""The image stream: every frame enters as a slot, advances in the stream batch, and leaves as a picture of its own moment.

What happens to the tensors is in image_step.py, how slots become its inputs in image_call.py, how values become a slot in entry.py;
this file decides who goes when.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.control.live_values import Snapshot
from engine.diffusion.stream_batch import coefficient_table
from engine.frames import Frame, PixelFormat
from engine.gpu.transfer import Download, Transfer
from engine.pipelines.entry import Entry
from engine.pipelines.image_call import inputs_of, key_of
from engine.pipelines.image_step import ImageStep
from engine.pipelines.slots import EmissionOrder, Slot, keep
from engine.pipelines.steadying import Steadying, trace_of
from engine.pipelines.stillness import Stillness

NO_NUMBERS = "the model gave no numbers for a frame, which was left out: if it goes on, choose --dtype bfloat16 or float32"


@dataclass(frozen=True, slots=True)
class _Arriving:
    """Pictures of finished slots on their way to the host."""

    slots: tuple[Slot, ...]
    download: Download
    opaque: bool


class ImageStream:
    """A live image-to-image or text-to-image stream over one model (Kodaira et al. 2023, with the residual computed directly).

    overlap: calls that may be on their way to the host while the next one is launched (1 on CUDA, else 0).
    told: what went wrong elsewhere, a prompt for instance, since it was last asked.
    watch_latent: told (index, finished latent [1, C, h, w]) of every frame; for comparing, not for the frame path.
    """

    watch_latent: Callable[[int, Tensor], None] | None = None

    def __init__(
        self,
        step: ImageStep,
        entry: Entry,
        transfer: Transfer,
        *,
        output_size: tuple[int, int] | None,
        overlap: int,
        told: Callable[[], list[str]] = list,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._step = step
        self._entry = entry
        self._transfer = transfer
        self._output_size = output_size
        self._overlap = overlap
        self._told = told
        self._clock = clock
        self._stillness = Stillness()
        self._steadying = Steadying(transfer)
        self._problems: list[str] = []
        self._last_input: Frame | None = None
        self.skipped = 0
        self.reset()

    def reset(self) -> None:
        """Forget frames in flight, the feedback picture, the steadied one, likeness to earlier frames; prompts and the last input stay."""
        self._flying: list[Slot] = []
        self._gathered: list[Slot] = []
        self._order = EmissionOrder()
        self._arriving: deque[_Arriving] = deque()
        self._wet: Tensor | None = None
        self._cold = True
        self._stillness.reset()
        self._steadying.reset()
        self._entry.reset()

    @property
    def in_flight(self) -> int:
        """Frames taken in and not yet handed out."""
        return len(self._order)

    @property
    def arriving(self) -> bool:
        """Whether finished pictures are on their way from the device."""
        return bool(self._arriving)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) at the model."""
        return self._entry.size

    def stage_ms(self) -> dict[str, float]:
        """Running means of the stages, in milliseconds."""
        return self._step.timer.milliseconds()

    def problems(self) -> list[str]:
        """What went wrong beside the picture since the last call, in plain sentences."""
        problems, self._problems = self._problems, []
        return problems + self._told()

    @torch.inference_mode()
    def step(self, frame: Frame | None, values: Snapshot) -> list[Frame]:
        """Take in a frame (or dream without one) and advance; finished frames in order, each with its own time and index."""
        finished = self._resized(values)
        if frame is not None and not self._stillness.admits(frame, values, self._entry.prompt(values)):
            self.skipped += 1
            self._enter_gathered(values)
            self._settle(values)
        else:
            self._gather(frame, values)
            if len(self._gathered) >= values.whole("frame_buffer"):
                self._enter_gathered(values)
            elif not self._gathered:
                self._settle(values)
        return finished + self._collect(self._overlap)

    def _settle(self, values: Snapshot) -> None:
        """Nothing enters: those in flight go on, so that the picture settles on the last real frame."""
        if self._flying:
            self._call([], values)
        self._cold = not self._flying

    def arrived(self) -> list[Frame]:
        """Frames finished earlier whose pictures have come to the host since; for the time between two steps."""
        return self._collect(self._overlap)

    @torch.inference_mode()
    def flush(self, values: Snapshot) -> list[Frame]:
        """Finish the frames in flight, oldest first; the stream is then as at its start."""
        self._enter_gathered(values)
        while self._flying:
            self._call([], values)
        self._cold = True
        return self._collect(0)

    def _resized(self, values: Snapshot) -> list[Frame]:
        """On a new size the frames in flight are finished at the old one first."""
        if self._entry.size_of(values) == self._entry.size:
            return []
        finished = self.flush(values)
        self._entry.resize(values)
        self._wet = None
        self._steadying.reset()
        return finished

    def _gather(self, frame: Frame | None, values: Snapshot) -> None:
        """A slot for the next frame: the picture given, or one dreamt up."""
        if frame is not None:
            # The pixels belong to the caller; the copy is what a dream goes on from.
            self._last_input = Frame(frame.pixels.copy(), frame.format, frame.captured_at, frame.index)
        elif values.text("mode") != "text_to_image" and values.text("without_input") != "dream":
            return
        painting = values.text("mode") == "text_to_image"
        shown = None if painting else self._last_input
        if shown is None and not painting:
            return  # nothing to dream of yet
        slot = self._entry.slot(frame, values, now=self._clock())
        if shown is not None:
            slot.dry, slot.alpha = self._entry.picture(self._transfer.upload(shown.pixels), shown.format, values)
            slot.trace = trace_of(shown, values, size=self.size, index=slot.index, prompt=slot.prompt, negative=slot.negative)
        if self._gathered and (self._gathered[0].dry is None) != (slot.dry is None):
            self._enter_gathered(values)
        self._gathered.append(slot)

    def _enter_gathered(self, values: Snapshot) -> None:
        """New frames start; a cold stream or one without stream batch takes them through all their steps at once."""
        entering, self._gathered = self._gathered, []
        if not entering:
            return
        for slot in entering:
            self._order.enter(slot)
        batched = values.toggle("stream_batch")
        while self._flying and not batched:
            self._call([], values)
        alone = self._cold or not batched
        # The rows of a call are newest first, so that the oldest stand last as in the paper's figure.
        self._call(entering[::-1], values)
        while alone and self._flying:
            self._call([], values)
        self._cold = False

    def _call(self, entering: list[Slot], values: Snapshot) -> None:
        """One network call: `entering` take their first step, all in flight their next."""
        slots = entering + self._flying
        plans = [slot.plan for slot in slots]
        finishing = tuple(i for i, plan in enumerate(plans) if plan.last)
        key = key_of(
            slots, values, entering=len(entering), finishing=finishing, size=self.size, output_size=self._output_size, last=self._wet
        )
        prompts = [slots[i].negative or slots[i].prompt for i in key.layout.negative] + [slot.prompt for slot in slots]
        conditioning = self._step.denoiser.condition(prompts, height=self.size[1], width=self.size[0])
        table = coefficient_table(plans, beside=(values.number("mix"), values.number("feedback")))
        inputs = inputs_of(key, slots, self._transfer.numbers(table), last=self._wet)
        out = self._step(key, inputs, conditioning)
        for i, slot in enumerate(slots):
            keep(slot, i, out, entered=i < len(entering))
        self._flying = [slot for slot in slots if not slot.denoised]
        if finishing:
            self._wet = out["wet"]
            finished = tuple(slots[i] for i in finishing)
            if key.steadying:
                with self._step.timer.stage("steady"):
                    rgb = self._steadying(out["rgb"], [slot.trace for slot in finished], values.number("steadiness"))
                    out["bytes"] = self._step.shown(key, inputs, rgb)
            else:
                self._steadying.reset()
            for i in finishing if self.watch_latent is not None else ():
                self.watch_latent(slots[i].index, out["x0"][i : i + 1])  # type: ignore[misc]
            self._arriving.append(_Arriving(finished, self._transfer.download(out["bytes"], out["sound"]), key.opaque))

    def _collect(self, leave: int) -> list[Frame]:
        """Frames that may come out; `leave` calls may still be on their way if their pictures have not come yet."""
        while self._arriving and (len(self._arriving) > leave or self._arriving[0].download.ready):
            arrived = self._arriving.popleft()
            layout = PixelFormat.BGRX if arrived.opaque else PixelFormat.BGRA
            pixels, sound = arrived.download.pixels()
            for slot, picture, good in zip(arrived.slots, pixels, sound, strict=True):
                if good:
                    slot.frame = Frame(picture, layout, slot.captured_at, slot.index)
                else:
                    slot.lost = True
                    self._problems = [NO_NUMBERS]
        return self._order.ready()
