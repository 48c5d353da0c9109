"""The video stream: frames are collected into chunks, every chunk is encoded, denoised with the ones before it in mind, and decoded.

How values become a chunk is in video_entry.py, what runs it in video_parts.py; this file decides who goes when.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from engine.control.live_values import Snapshot
from engine.frames import Frame
from engine.gpu.timing import StageTimer
from engine.gpu.transfer import Transfer
from engine.models.video_codec import VideoCodec
from engine.models.video_denoiser import PromptKeysValues, VideoDenoiser
from engine.models.video_policies import VideoPolicies
from engine.pipelines.deadline import Deadline
from engine.pipelines.image_stream import NO_NUMBERS
from engine.pipelines.video_entry import ChunkEntry, ChunkPrompts, Entered
from engine.pipelines.video_input import ChunkInput
from engine.pipelines.video_output import FILLER, ChunkOutput, Flight
from engine.pipelines.video_parts import Denoising, DenoisingKind, largest_chunk, runs_with
from engine.video.schedulers import Chunk
from engine.video.slo_costs import ChunkPlan
from engine.video.slo_report import Punctuality


class VideoStream:
    """A live video-to-video or text-to-video stream over one causal model (StreamDiffusionV2, Feng et al. 2025; Self-Forcing, Huang
    et al. 2025). One frame in flight is one picture of a chunk.

    multiple: pixels a side of a picture are a multiple of. dtype: of pictures. overlap: chunks that may be on their way to the host
    while the next one is computed. told: what went wrong elsewhere. watch_latent: told (number of the chunk, finished latent
    [1, F, C, h, w]); for comparing, not for the frame path.
    """

    watch_latent: Callable[[int, Tensor], None] | None = None

    def __init__(
        self,
        network: VideoDenoiser,
        codec: VideoCodec,
        prompts: ChunkPrompts,
        policies: VideoPolicies,
        values: Snapshot,
        *,
        multiple: int,
        dtype: torch.dtype,
        output_size: tuple[int, int] | None = None,
        overlap: int = 0,
        told: Callable[[], list[str]] = list,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._network, self._codec, self._prompts, self._policies = network, codec, prompts, policies
        self._multiple, self._overlap, self._told, self._clock = multiple, overlap, told, clock
        transfer = Transfer(network.device)
        self._timer = StageTimer(network.device)
        self._entry = ChunkEntry(policies, network.device)
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
        self._denoising: Denoising | None = None
        self._notes: list[str] = []
        self._refused = ""
        self.size = self._size_of(values)
        self.reset()

    @torch.inference_mode()
    def reset(self) -> None:
        """Forget chunks in flight, the context and the codec's past; prompts and the last input stay."""
        if self._denoising is not None:
            self._denoising.reset()
        self._codec.reset()
        for part in (self._input, self._output, self._entry):
            part.reset()
        self._deadline.restart(self._clock())
        self._flights: dict[int, Flight] = {}
        self._owed = 0

    @property
    def in_flight(self) -> int:
        """Frames taken in, or dreamt of, and not yet handed out."""
        flying = sum(moment.index != FILLER for flight in self._flights.values() for moment in flight.moments)
        return self._input.waiting + flying + self._output.frames_arriving

    @property
    def arriving(self) -> bool:
        """Whether finished pictures are on their way from the device."""
        return self._output.arriving

    @property
    def skipped(self) -> int:
        """Frames left out because more came than the model could take."""
        return self._input.dropped

    def stage_ms(self) -> dict[str, float]:
        """Running means of the stages, in milliseconds a chunk."""
        return self._timer.milliseconds()

    def punctuality(self) -> Punctuality:
        """Time to the first frame, latency, jitter and missed deadlines since the start or the last reset."""
        return self._deadline.report()

    def problems(self) -> list[str]:
        """What went wrong beside the picture since the last call, in plain sentences."""
        lost, self._output.lost = self._output.lost, False
        notes, self._notes = self._notes, []
        return [NO_NUMBERS] * lost + notes + self._told()

    @torch.inference_mode()
    def step(self, frame: Frame | None, values: Snapshot) -> list[Frame]:
        """Take in a frame (or go on without one); the pictures that are finished, each with its own time and index."""
        finished = self._resized(values)
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
        if self._denoising is not None:
            self._finish(self._denoising.scheduler.flush(), values)
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
        self._denoising = None
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
        plan = self._plan(values)
        gathered = self._input.take(plan.chunk)
        if gathered is None:
            return False
        self._deadline.dropped(gathered.dropped)
        with self._timer.stage("encode"):
            clean = self._codec.encode(gathered.pictures)
        denoising, told, timesteps = self._ready(values, int(clean.shape[1]), plan)
        entered = self._entry.from_pictures(values, timesteps, clean, gathered.pictures, gathered.greys)
        self._enter(denoising, entered, told, gathered.flight, values)
        self._deadline.chunk_done(self._timer.newest(), calls=plan.calls + (denoising.kind.scheduler == "clean_rerun"))
        return True

    def _plan(self, values: Snapshot) -> ChunkPlan:
        """How the next chunk is made: as the values say, or as their deadline wants it."""
        scheduler = self._scheduler(values)
        steps = len(self._entry.steps(values, scheduler))
        natural = ChunkPlan(largest_chunk(self._policies, values.whole("chunk_frames")), steps, scheduler == "stream_batch" and steps > 1)
        if scheduler == "rolling_window":
            return natural
        largest = largest_chunk(self._policies, self._policies.window)
        can_batch = scheduler in ("sequential", "stream_batch") and not self._policies.context
        return self._deadline.plan(values, natural, largest=largest, can_batch=can_batch)

    def _scheduler(self, values: Snapshot) -> str:
        asked = values.text("step_scheduler")
        refused, self._refused = self._refused, ""
        if asked == "auto" or runs_with(self._policies, asked):
            return self._policies.scheduler if asked == "auto" else asked
        self._refused = asked
        if refused != asked:
            self._notes.append(f"this model's cache does not go with the step scheduler {asked}; it runs {self._policies.scheduler}")
        return self._policies.scheduler

    def _paint(self, values: Snapshot) -> None:
        """A chunk out of noise, as soon as the pictures of the one before have had their time."""
        self._owed -= 1
        if self._owed > 0:
            return
        first = not self._output.any and not self._flights
        frames = self._input.first_frames(values) if first else largest_chunk(self._policies, values.whole("chunk_frames"))
        count = self._input.pictures(frames, first=first)
        denoising, told, timesteps = self._ready(values, frames)
        width, height = self.size
        shape = (frames, self._codec.latent_channels, height // self._codec.factor, width // self._codec.factor)
        entered = self._entry.from_noise(values, timesteps, shape)
        moments = tuple(self._input.moment(self._clock()) for _ in range(count))
        self._owed = count
        self._enter(denoising, entered, told, Flight(moments, None), values)

    def _ready(self, values: Snapshot, frames: int, plan: ChunkPlan | None = None) -> tuple[Denoising, PromptKeysValues, tuple[float, ...]]:
        """What denoises the next chunk, built anew where another kind is asked for; its prompt and its timesteps."""
        told, switched = self._prompts.next(values)
        scheduler = self._scheduler(values)
        if plan is not None and scheduler in ("sequential", "stream_batch"):
            scheduler = "stream_batch" if plan.batched else "sequential"
        timesteps = self._entry.steps(values, scheduler, None if plan is None else plan.steps)
        width, height = self.size
        largest = max(frames, largest_chunk(self._policies, values.whole("chunk_frames")))
        kind = DenoisingKind(scheduler, len(timesteps), largest, (height // self._codec.factor, width // self._codec.factor))
        before = self._denoising
        if before is None or not before.kind.fits(kind):
            self._denoising = Denoising(self._network, self._policies, kind, first=self._alone if self._policies.context else None)
            if before is not None:
                self._finish(before.scheduler.flush(), values)
                self._denoising.go_on_from(before.rollout.history, told)
        elif switched and self._recaches(values):
            self._finish(before.scheduler.flush(), values)
            before.switch_prompt(told)
        assert self._denoising is not None
        return self._denoising, told, timesteps

    def _recaches(self, values: Snapshot) -> bool:
        asked = values.text("prompt_recache")
        return (self._policies.on_prompt if asked == "auto" else asked) == "recache"

    def _alone(self, latent: Tensor) -> Tensor:
        """The oldest context frame as the first latent of a clip: of the picture that was shown for it."""
        latest = self._output.latest
        return self._codec.encode_alone(latest[0]) if len(latest) == latest.maxlen else latent

    def _enter(self, denoising: Denoising, entered: Entered, told: PromptKeysValues, flight: Flight, values: Snapshot) -> None:
        rollout, number = denoising.rollout, self._entry.count
        self._flights[number] = flight
        with self._timer.stage("denoise"):
            denoising.context.before_chunk(rollout, told)
            position = rollout.positions.advance(int(entered.latent.shape[1]))
            chunk = Chunk(entered.latent, entered.levels, entered.later_noise, position, told, tag=number)
            finished = denoising.scheduler.enter(chunk)
            denoising.context.after_chunk(rollout, told)
        self._finish(finished, values)

    def _finish(self, finished: Sequence[Chunk], values: Snapshot) -> None:
        """Decode chunks, oldest first, and send their pictures on their way."""
        for chunk in finished:
            if self.watch_latent is not None:
                self.watch_latent(chunk.tag, chunk.latent)
            self._output.decode(chunk.latent, self._flights.pop(chunk.tag), values, size=self.size)
