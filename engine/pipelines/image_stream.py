"""The image stream: every frame enters as a slot, advances in the stream batch, and leaves as a picture of its own moment.

What happens to the tensors is in image_step.py; how values become a slot is in entry.py; this file decides who goes when.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.control.live_values import Snapshot
from engine.diffusion.stream_batch import COEFFICIENTS, Layout, coefficient_table
from engine.frames import Frame, PixelFormat
from engine.gpu.transfer import Download, Transfer
from engine.images.similarity import SimilarityFilter, thumbnail
from engine.models.attention import joinable
from engine.pipelines.entry import Entry
from engine.pipelines.image_step import ImageStep, StepKey
from engine.pipelines.slots import EmissionOrder, Slot, alike, keep


@dataclass(frozen=True, slots=True)
class _Arriving:
    """Pictures of finished slots on their way to the host."""

    slots: tuple[Slot, ...]
    download: Download
    opaque: bool


class ImageStream:
    """A live image-to-image or text-to-image stream over one model (Kodaira et al. 2023, with the residual computed directly).

    overlap: calls that may be on their way to the host while the next one is launched (1 on CUDA, else 0).
    problems: what went wrong beside the picture since the last call, in plain sentences.
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
        problems: Callable[[], list[str]] = list,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._step = step
        self._entry = entry
        self._transfer = transfer
        self._output_size = output_size
        self._overlap = overlap
        self.problems = problems
        self._clock = clock
        self._similarity = SimilarityFilter()
        self.skipped = 0
        self.reset()

    def reset(self) -> None:
        """Forget frames in flight, the feedback picture and the likeness to earlier frames; prompts stay."""
        self._flying: list[Slot] = []
        self._gathered: list[Slot] = []
        self._order = EmissionOrder()
        self._arriving: deque[_Arriving] = deque()
        self._wet: Tensor | None = None
        self._last_frame: Frame | None = None
        self._cold = True
        self._similarity.reset()
        self._entry.reset()

    @property
    def in_flight(self) -> int:
        """Frames taken in and not yet handed out."""
        return len(self._order)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) at the model."""
        return self._entry.size

    def stage_ms(self) -> dict[str, float]:
        """Running means of the stages, in milliseconds."""
        return self._step.timer.milliseconds()

    @torch.inference_mode()
    def step(self, frame: Frame | None, values: Snapshot) -> list[Frame]:
        """Take in a frame (or dream without one) and advance; finished frames in order, each with its own time and index."""
        finished = self._resized(values)
        if frame is not None and not self._admits(frame, values):
            frame = None
            self.skipped += 1
        else:
            self._gather(frame, values)
        if len(self._gathered) >= values.whole("frame_buffer"):
            entering, self._gathered = self._gathered, []
            self._enter(entering, values)
        elif self._flying and not self._gathered:
            # Nothing enters: those in flight go on, so that the picture settles on the last real frame.
            self._call([], values)
            self._cold = not self._flying
        return finished + self._collect(self._overlap)

    @torch.inference_mode()
    def flush(self, values: Snapshot) -> list[Frame]:
        """Finish the frames in flight, oldest first; the stream is then as at its start."""
        if self._gathered:
            entering, self._gathered = self._gathered, []
            self._enter(entering, values)
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
        return finished

    def _admits(self, frame: Frame, values: Snapshot) -> bool:
        """The similarity filter's word, from the bytes on the host: no device is asked."""
        if not values.toggle("similarity_filter"):
            return True
        return self._similarity.admit(
            thumbnail(frame.pixels, frame.format),
            threshold=values.number("similarity_threshold"),
            max_skip=values.whole("similarity_max_skip"),
            draw=self._entry.draw(),
        )

    def _gather(self, frame: Frame | None, values: Snapshot) -> None:
        """A slot for the next frame: the picture given, or one dreamt up."""
        painting = values.text("mode") == "text_to_image"
        dreaming = values.text("without_input") == "dream"
        if frame is None and not painting:
            if not dreaming or self._last_frame is None:
                return
            frame = Frame(self._last_frame.pixels, self._last_frame.format, self._clock(), self._last_frame.index + 1)
        if frame is not None and dreaming:
            again = self._last_frame is not None and frame.pixels is self._last_frame.pixels
            self._last_frame = Frame(frame.pixels if again else frame.pixels.copy(), frame.format, frame.captured_at, frame.index)
        slot = self._entry.slot(frame, values, now=self._clock())
        if not painting and frame is not None:
            slot.pixels, slot.format = self._transfer.upload(frame.pixels), frame.format
        if self._gathered and not alike(self._gathered[0], slot):
            entering, self._gathered = self._gathered, []
            self._enter(entering, values)
        self._gathered.append(slot)

    def _enter(self, entering: list[Slot], values: Snapshot) -> None:
        """New frames start; a cold stream or one without stream batch takes them through all their steps at once."""
        for slot in entering:
            self._order.enter(slot)
        batched = values.toggle("stream_batch")
        if self._flying and not batched:
            while self._flying:
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
        key = self._key(slots, len(entering), finishing, values)
        prompts = [slots[i].negative or slots[i].prompt for i in key.layout.negative] + [slot.prompt for slot in slots]
        conditioning = self._step.denoiser.condition(prompts, height=self.size[1], width=self.size[0])
        coefficients = coefficient_table(plans).to(self._entry.device, non_blocking=True)
        out = self._step(key, self._inputs(key, slots, coefficients, values), conditioning)
        for i, slot in enumerate(slots):
            keep(slot, i, out, entered=i < len(entering))
        self._flying = [slot for slot in slots if not slot.denoised]
        if finishing:
            self._wet = out["wet"]
            finished = tuple(slots[i] for i in finishing)
            for i in finishing if self.watch_latent is not None else ():
                self.watch_latent(slots[i].index, out["x0"][i : i + 1])  # type: ignore[misc]
            self._arriving.append(_Arriving(finished, self._transfer.download(out["bytes"]), key.opaque))

    def _key(self, slots: Sequence[Slot], entering: int, finishing: tuple[int, ...], values: Snapshot) -> StepKey:
        layout = Layout.of([slot.plan for slot in slots])
        pixels = slots[0].pixels if entering else None
        with_alpha = [slots[i].carries_alpha for i in finishing]
        groups = tuple(n for n in (len(layout.negative), layout.rows) if n)
        return StepKey(
            layout=layout,
            entering=entering,
            pixels=None if pixels is None or slots[0].format is None else (pixels.shape[1], pixels.shape[2], slots[0].format),
            fit=values.text("fit"),
            size=self.size,
            output_size=self._output_size or self.size,
            finishing=finishing,
            mixing=values.number("mix") < 1.0 and all(slots[i].has_picture for i in finishing),
            feeding=values.number("feedback") > 0.0 and self._wet is not None,
            opaque=not (with_alpha and all(with_alpha)),
            frame_groups=groups if values.toggle("cross_frame_attention") and joinable(groups) else None,
        )

    def _inputs(self, key: StepKey, slots: Sequence[Slot], coefficients: Tensor, values: Snapshot) -> dict[str, Tensor]:
        assert coefficients.shape[0] == len(COEFFICIENTS)
        new, old = slots[: key.entering], slots[key.entering :]
        inputs = {"coefficients": coefficients, "next_noise": torch.cat([slot.next_noise for slot in slots])}
        if new:
            inputs["noise"] = torch.cat([slot.noise[:1] for slot in new])
            if key.pixels is not None:
                inputs["pixels"] = torch.cat([slot.pixels for slot in new if slot.pixels is not None])
        for name, tensors in (
            ("x", [slot.latent for slot in old]),
            ("reference", [slot.reference for slot in old]),
            ("image", [slot.image for slot in old]),
            ("dry", [slots[i].dry for i in key.finishing if i >= key.entering and key.mixing]),
            ("alpha", [slots[i].alpha for i in key.finishing if i >= key.entering and not key.opaque]),
        ):
            present = [tensor for tensor in tensors if tensor is not None]
            if present:
                inputs[name] = torch.cat(present)
        for name, used in (("mix", key.mixing), ("feedback", key.feeding)):
            if used:
                inputs[name] = torch.tensor(values.number(name), dtype=torch.float32).to(self._entry.device)
        if key.feeding and self._wet is not None:
            inputs["last"] = self._wet
        return inputs

    def _collect(self, leave: int) -> list[Frame]:
        """Frames that may come out; `leave` calls may still be on their way."""
        while len(self._arriving) > leave:
            arrived = self._arriving.popleft()
            layout = PixelFormat.BGRX if arrived.opaque else PixelFormat.BGRA
            for slot, pixels in zip(arrived.slots, arrived.download.pixels(), strict=True):
                slot.frame = Frame(pixels, layout, slot.captured_at, slot.index)
        return self._order.ready()
