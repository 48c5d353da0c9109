"""The video stream: frames are collected into chunks, every chunk is encoded, denoised with the ones before it in mind, and decoded.

How values become a chunk is in video_entry.py, what runs it in chunk_plan.py; this file decides who goes when.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from engine.control.live_values import Snapshot
from engine.frames import Frame
from engine.gpu.timing import StageTimer
from engine.gpu.transfer import Transfer
from engine.models.video_policies import VideoPolicies
from engine.pipelines.chunk_plan import ChunkPlans, Ready
from engine.pipelines.codec_line import CodecLine
from engine.pipelines.deadline import Deadline
from engine.pipelines.denoising import Denoising, DenoisingSite
from engine.pipelines.image_stream import NO_NUMBERS
from engine.pipelines.unused_values import UnusedValues
from engine.pipelines.video_entry import ChunkEntry, ChunkPrompts, Entered
from engine.pipelines.video_input import ChunkInput
from engine.pipelines.video_output import ChunkOutput, Flight, to_be_shown
from engine.pipelines.video_stillness import ChunkStillness
from engine.pipelines.video_under_way import ChunkDenoising, ChunkEncoding, Encoding
from engine.video.schedulers import Chunk
from engine.video.slo_costs import ChunkPlan
from engine.video.slo_report import Punctuality


class VideoStream:
    """A live video-to-video or text-to-video stream over one causal model (StreamDiffusionV2, Feng et al. 2025; Self-Forcing, Huang
    et al. 2025). One frame in flight is one picture of a chunk.

    multiple: pixels a side of a picture are a multiple of. dtype: of pictures. overlap: chunks that may be on their way to the host
    while the next one is computed. told: what went wrong elsewhere. close: ends what works for it elsewhere. watch_latent: told (number
    of the chunk, finished latent [1, F, C, h, w]); for comparing, not for the frame path.
    """

    watch_latent: Callable[[int, Tensor], None] | None = None

    def __init__(
        self,
        site: DenoisingSite,
        codec: CodecLine,
        prompts: ChunkPrompts,
        policies: VideoPolicies,
        values: Snapshot,
        *,
        multiple: int,
        dtype: torch.dtype,
        output_size: tuple[int, int] | None = None,
        overlap: int = 0,
        told: Callable[[], list[str]] = list,
        close: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._codec, self._prompts, self._policies, self.close = codec, prompts, policies, close
        self._multiple, self._overlap, self._told, self._clock = multiple, overlap, told, clock
        transfer = Transfer(site.device)
        self._timer = StageTimer(site.device)
        self._entry = ChunkEntry(policies, site.device)
        self._deadline = Deadline(pictures=codec.pictures_per_latent, started_at=clock())
        self._input = ChunkInput(policies, transfer, values, pictures_per_latent=codec.pictures_per_latent, dtype=dtype)
        self._output = ChunkOutput(
            codec,
            transfer,
            self._timer,
            output_size=output_size,
            remembered=policies.context,
            shown=lambda captured_at: self._deadline.shown(captured_at, self._clock()),
        )
        self._plans = ChunkPlans(site, policies, prompts, self._entry, self._deadline, alone=self._alone)
        self._stillness, self._unused = ChunkStillness(), UnusedValues()
        self._encoding, self._denoising = ChunkEncoding(codec, self._timer), ChunkDenoising(self._timer)
        self._notes: list[str] = []
        self.size = self._size_of(values)
        self.reset()

    @torch.inference_mode()
    def reset(self) -> None:
        """Forget chunks in flight, the context and the codec's past; prompts and the last input stay."""
        if self._plans.denoising is not None:
            self._plans.denoising.reset()
        self._codec.reset()
        for part in (self._input, self._encoding, self._denoising, self._output, self._entry, self._stillness):
            part.reset()
        self._deadline.restart(self._clock())
        self._owed = 0

    @property
    def in_flight(self) -> int:
        """Frames taken in, or dreamt of, and not yet handed out."""
        flying = to_be_shown(flight.moments for flight in (*self._denoising.flights, *self._encoding.flights))
        return self._input.waiting + flying + self._output.frames_arriving

    @property
    def arriving(self) -> bool:
        """Whether finished pictures are on their way from the device."""
        return self._output.arriving

    @property
    def skipped(self) -> int:
        """Frames left out because they resembled the last one, or because more came than the model could take."""
        return self._input.dropped + self._stillness.skipped

    def stage_ms(self) -> dict[str, float]:
        """Running means of the stages, in milliseconds a chunk."""
        return self._timer.milliseconds()

    def newest_stage_ms(self) -> dict[str, float]:
        """The last measurement of each stage, in milliseconds; on CUDA of a chunk that is over already."""
        return self._timer.newest()

    def punctuality(self) -> Punctuality:
        """Time to the first frame, latency, jitter and missed deadlines since the start or the last reset."""
        return self._deadline.report()

    def problems(self) -> list[str]:
        """What went wrong beside the picture since the last call, in plain sentences."""
        lost, self._output.lost = self._output.lost, False
        notes = self._notes + self._plans.notes
        self._notes, self._plans.notes = [], []
        return [NO_NUMBERS] * lost + notes + self._told()

    @torch.inference_mode()
    def step(self, frame: Frame | None, values: Snapshot) -> list[Frame]:
        """Take in a frame (or go on without one); the pictures that are finished, each with its own time and index."""
        finished = self._resized(values)
        self._notes += self._unused.notes(values)
        if values.text("mode") == "text_to_image":
            self._paint(values)
        elif self._take_in(frame, values):
            self._enter_waiting(values)
        return finished + self._output.collect(self._overlap)

    def arrived(self) -> list[Frame]:
        """Pictures that have come to the host since."""
        return self._output.collect(self._overlap)

    @torch.inference_mode()
    def flush(self, values: Snapshot) -> list[Frame]:
        """Finish what is in flight; a chunk that is not full is filled up with its last picture, which is not shown again."""
        while self._input.waiting and not self._enter_waiting(values):
            self._input.put_again(self._clock(), values, filling=True)
        self._enter_encoded(ahead=0)
        if self._plans.denoising is not None:
            self._finish_all(self._plans.denoising, values)
        self._output.finish_decoding()
        return self._output.collect(0)

    def _resized(self, values: Snapshot) -> list[Frame]:
        """On a new size everything in flight is finished at the old one, and a new session starts."""
        if self._size_of(values) == self.size:
            return []
        finished = self.flush(values)
        index = self._input.next_index
        self.reset()
        self._input.next_index = index
        self._input.forget()
        self._plans.forget()
        self.size = self._size_of(values)
        return finished

    def _size_of(self, values: Snapshot) -> tuple[int, int]:
        width, height = (max(1, round(values.whole(name) / self._multiple)) * self._multiple for name in ("width", "height"))
        return width, height

    def _take_in(self, frame: Frame | None, values: Snapshot) -> bool:
        """The frame given, or the last one again in a dream, waits for its chunk; whether there is one."""
        if frame is not None:
            self._input.put(frame, values, size=self.size, wants_grey=self._entry.noise_kind(values) == "flow_warped")
            self._deadline.captured(frame.captured_at)
            return True
        return values.text("without_input") == "dream" and self._input.put_again(self._clock(), values)

    def _enter_waiting(self, values: Snapshot) -> bool:
        """The frames that wait become a chunk if there are enough of them."""
        plan = self._plans.plan(values)
        gathered = self._input.take(plan.chunk)
        if gathered is None:
            return False
        self._deadline.dropped(gathered.dropped)
        if not self._stillness.admits(gathered.smalls, values, settled=self._prompts.settled(values)):
            return False
        self._encoding.begin(Encoding(gathered, plan, values))
        self._enter_encoded(ahead=self._ahead)
        return True

    @property
    def _ahead(self) -> int:
        """Chunks that may be at a codec that works beside this process; none when nothing has been shown, which is not to come late."""
        return self._codec.ahead if self._output.any else 0

    def _enter_encoded(self, *, ahead: int) -> None:
        """Chunks go from the codec to the denoiser, oldest first, until only `ahead` are left there."""
        for chunk, clean in self._encoding.encoded(ahead=ahead):
            gathered, plan, values = chunk.gathered, chunk.plan, chunk.values
            ready = self._ready(values, int(clean.shape[1]), plan)
            entered = self._entry.from_pictures(values, ready.timesteps, clean, gathered.pictures, gathered.greys)
            self._enter(ready, entered, gathered.flight, values)
            self._deadline.chunk_done(self.newest_stage_ms(), calls=ready.calls, reruns=ready.reruns)

    def _paint(self, values: Snapshot) -> None:
        """A chunk out of noise, as soon as the pictures of the one before have had their time."""
        self._owed -= 1
        if self._owed > 0:
            return
        self._enter_encoded(ahead=0)
        plan = self._plans.plan(values, painted=True)
        first = not self._output.any and not self._denoising.flights
        frames = self._input.first_frames(values) if first else plan.chunk
        count = self._input.pictures(frames, first=first)
        ready = self._ready(values, frames, plan)
        width, height = self.size
        shape = (frames, self._codec.latent_channels, height // self._codec.factor, width // self._codec.factor)
        entered = self._entry.from_noise(values, ready.timesteps, shape)
        moments = tuple(self._input.moment(self._clock()) for _ in range(count))
        self._owed = count
        self._enter(ready, entered, Flight(moments, None), values)
        self._deadline.chunk_done(self.newest_stage_ms() | {"encode": 0.0}, calls=ready.calls, reruns=ready.reruns)

    def _ready(self, values: Snapshot, frames: int, plan: ChunkPlan) -> Ready:
        width, height = self.size
        size = (height // self._codec.factor, width // self._codec.factor)
        return self._plans.ready(values, frames, size, lambda denoising: self._finish_all(denoising, values), plan)

    def _alone(self, latent: Tensor) -> Tensor:
        """The oldest context frame as the first latent of a clip: of the picture that was shown for it."""
        latest = self._output.latest
        return self._codec.encode_alone(latest[0]) if len(latest) == latest.maxlen else latent

    def _enter(self, ready: Ready, entered: Entered, flight: Flight, values: Snapshot) -> None:
        self._finish(self._denoising.enter(ready, entered, flight, number=self._entry.count), values)
        beside = self._timer.milliseconds()
        ready.denoising.chunk_entered(sum(beside.get(stage, 0.0) for stage in ("encode", "decode")) / 1000.0)

    def _finish_all(self, denoising: Denoising, values: Snapshot) -> None:
        self._finish(self._denoising.flush(denoising), values)

    def _finish(self, finished: Iterable[tuple[Chunk, Flight]], values: Snapshot) -> None:
        """Decode chunks, oldest first, and send their pictures on their way."""
        for chunk, flight in finished:
            if self.watch_latent is not None:
                self.watch_latent(chunk.tag, chunk.latent)
            self._output.decode(chunk.latent, flight, values, size=self.size, behind=self._ahead)
