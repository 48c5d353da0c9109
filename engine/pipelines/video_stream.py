"""The video stream: frames are collected into chunks, every chunk is encoded, denoised with the ones before it in mind, and decoded.

How values become a chunk is in video_entry.py, what runs it in video_parts.py; this file decides who goes when.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.control.live_values import Snapshot
from engine.frames import Frame, PixelFormat, Pixels
from engine.gpu.timing import StageTimer
from engine.gpu.transfer import Download, Transfer
from engine.images.blend import mix
from engine.images.flow import luminance
from engine.images.pixel_formats import to_bgra, to_rgb
from engine.images.resize import fit
from engine.models.video_codec import VideoCodec, picture_count
from engine.models.video_denoiser import PromptKeysValues, VideoDenoiser
from engine.models.video_policies import VideoPolicies
from engine.pipelines.deadline import Deadline
from engine.pipelines.image_stream import NO_NUMBERS
from engine.pipelines.video_entry import ChunkEntry, ChunkPrompts, Entered
from engine.pipelines.video_parts import Denoising, DenoisingKind, largest_chunk
from engine.video.chunks import Collected, FrameChunks
from engine.video.schedulers import Chunk
from engine.video.slo_costs import ChunkPlan
from engine.video.slo_report import Punctuality

ROOM = 64
"""Frames that may wait for a chunk."""
FILLER = -1
"""Index of a picture that only fills a chunk up and is never shown."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One input frame: rgb [1, 3, H, W] in [-1, 1] at the size of the model, and its luminance where motion is asked for."""

    rgb: Tensor
    grey: Pixels | None


@dataclass(frozen=True, slots=True)
class _Moment:
    """When a picture is of."""

    captured_at: float
    index: int


@dataclass(frozen=True, slots=True)
class _Flight:
    """A chunk between entry and picture: its pictures' moments, and the input [1, T, 3, H, W]."""

    moments: tuple[_Moment, ...]
    dry: Tensor | None


@dataclass(frozen=True, slots=True)
class _Arriving:
    """Pictures on their way to the host."""

    moments: tuple[_Moment, ...]
    download: Download


class VideoStream:
    """A live video-to-video or text-to-video stream over one causal model (StreamDiffusionV2, Feng et al. 2025; Self-Forcing, Huang
    et al. 2025). One frame in flight is one picture of a chunk.

    overlap: chunks that may be on their way to the host while the next one is computed. told: what went wrong elsewhere.
    watch_latent: told (number of the chunk, finished latent [1, F, C, h, w]); for comparing, not for the frame path.
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
        self._multiple, self._dtype, self._output_size = multiple, dtype, output_size
        self._overlap, self._told, self._clock = overlap, told, clock
        self._transfer = Transfer(network.device)
        self._timer = StageTimer(network.device)
        self._entry = ChunkEntry(policies, network.device)
        self._chunks: FrameChunks[Picture] = FrameChunks(first_pictures=self._first_pictures(values), room=ROOM)
        self._denoising: Denoising | None = None
        self._deadline = Deadline(pictures=codec.pictures_per_latent, started_at=clock())
        self._problems: list[str] = []
        self._last_input: Picture | None = None
        self.size = self._size_of(values)
        self.reset()

    @torch.inference_mode()
    def reset(self) -> None:
        """Forget chunks in flight, the context and the codec's past; prompts and the last input stay."""
        if self._denoising is not None:
            self._denoising.reset()
        self._codec.reset()
        self._chunks.reset()
        self._entry.reset()
        self._deadline.restart(self._clock())
        self._flights: dict[int, _Flight] = {}
        self._arriving: deque[_Arriving] = deque()
        self._shown: deque[Tensor] = deque(maxlen=max(1, self._policies.context))
        self._decoded_any = False
        self._next_index = 0
        self._owed = 0

    @property
    def in_flight(self) -> int:
        """Frames taken in, or dreamt of, and not yet handed out."""
        moments = [flight.moments for flight in self._flights.values()] + [arriving.moments for arriving in self._arriving]
        return self._chunks.waiting + sum(moment.index != FILLER for chunk in moments for moment in chunk)

    @property
    def arriving(self) -> bool:
        """Whether finished pictures are on their way from the device."""
        return bool(self._arriving)

    @property
    def skipped(self) -> int:
        """Frames left out because more came than the model could take."""
        return self._chunks.dropped

    def stage_ms(self) -> dict[str, float]:
        """Running means of the stages, in milliseconds a chunk."""
        return self._timer.milliseconds()

    def punctuality(self) -> Punctuality:
        """Time to the first frame, latency, jitter and missed deadlines since the start or the last reset."""
        return self._deadline.report()

    def problems(self) -> list[str]:
        """What went wrong beside the picture since the last call, in plain sentences."""
        problems, self._problems = self._problems, []
        return problems + self._told()

    @torch.inference_mode()
    def step(self, frame: Frame | None, values: Snapshot) -> list[Frame]:
        """Take in a frame (or go on without one); the pictures that are finished, each with its own time and index."""
        finished = self._resized(values)
        if values.text("mode") == "text_to_image":
            self._paint(values)
        elif self._take_in(frame, values):
            self._enter_waiting(values)
        return finished + self._collect(self._overlap)

    def arrived(self) -> list[Frame]:
        """Pictures that have come to the host since."""
        return self._collect(self._overlap)

    @torch.inference_mode()
    def flush(self, values: Snapshot) -> list[Frame]:
        """Finish what is in flight; a chunk that is not full is filled up with its last picture, which is not shown again."""
        if self._chunks.waiting and self._last_input is not None:
            while not self._enter_waiting(values):
                self._chunks.put(self._last_input, captured_at=self._clock(), index=FILLER)
        if self._denoising is not None:
            self._finish(self._denoising.scheduler.flush(), values)
        return self._collect(0)

    def _resized(self, values: Snapshot) -> list[Frame]:
        """On a new size everything in flight is finished at the old one, and a new session starts."""
        if self._size_of(values) == self.size:
            return []
        finished = self.flush(values)
        index = self._next_index
        self.reset()
        self._next_index = index
        self._denoising, self._last_input = None, None
        self.size = self._size_of(values)
        return finished

    def _size_of(self, values: Snapshot) -> tuple[int, int]:
        width, height = (max(1, round(values.whole(name) / self._multiple)) * self._multiple for name in ("width", "height"))
        return width, height

    def _first_pictures(self, values: Snapshot) -> int:
        frames = self._policies.first_frames or largest_chunk(self._policies, values.whole("chunk_frames"))
        return self._pictures(1 if values.toggle("one_frame_start") else frames, first=True)

    def _pictures(self, frames: int, *, first: bool) -> int:
        return picture_count(frames, first=first, pictures_per_latent=self._codec.pictures_per_latent)

    def _take_in(self, frame: Frame | None, values: Snapshot) -> bool:
        """The frame given, or the last one again in a dream, waits for its chunk; whether there is one."""
        if frame is not None:
            grey = None
            if self._entry.noise_kind(values) == "flow_warped":
                grey = luminance(frame.pixels, frame.format, *self.size, values.text("fit"))
            rgb, _ = to_rgb(self._transfer.upload(frame.pixels), frame.format, self._dtype)
            self._last_input = Picture(fit(rgb, *self.size, values.text("fit")), grey)
            moment = self._moment(frame.captured_at, frame.index)
            self._deadline.captured(frame.captured_at)
        elif values.text("without_input") == "dream" and self._last_input is not None:
            moment = self._moment(self._clock(), self._next_index)
        else:
            return False
        assert self._last_input is not None
        if self._chunks.is_first and not self._chunks.waiting:
            self._chunks.reset(first_pictures=self._first_pictures(values))
        self._chunks.put(self._last_input, captured_at=moment.captured_at, index=moment.index)
        return True

    def _moment(self, captured_at: float, index: int) -> _Moment:
        """Indices only grow, also where frames and dreams take turns."""
        index = max(index, self._next_index)
        self._next_index = index + 1
        return _Moment(captured_at, index)

    def _enter_waiting(self, values: Snapshot) -> bool:
        """The frames that wait become a chunk if there are enough of them."""
        plan = self._plan(values)
        chunk = self._chunks.take(self._pictures(plan.chunk, first=False))
        if chunk is None:
            return False
        self._deadline.dropped(chunk.dropped)
        pictures = torch.stack([collected.item.rgb for collected in chunk.frames], dim=1)
        with self._timer.stage("encode"):
            clean = self._codec.encode(pictures)
        greys = [collected.item.grey for collected in self._last_of_latents(chunk.frames, int(clean.shape[1]))]
        denoising, told, timesteps = self._ready(values, int(clean.shape[1]), plan)
        entered = self._entry.from_pictures(values, timesteps, clean, pictures, greys)
        moments = tuple(_Moment(collected.captured_at, collected.index) for collected in chunk.frames)
        self._enter(denoising, entered, told, _Flight(moments, pictures), values)
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
        return self._policies.scheduler if asked == "auto" else asked

    def _last_of_latents(self, frames: Sequence[Collected[Picture]], latents: int) -> Sequence[Collected[Picture]]:
        """The last picture of each latent frame."""
        return [frames[len(frames) - 1 - place * self._codec.pictures_per_latent] for place in range(latents)][::-1]

    def _paint(self, values: Snapshot) -> None:
        """A chunk out of noise, as soon as the pictures of the one before have had their time."""
        self._owed -= 1
        if self._owed > 0:
            return
        first = not self._decoded_any and not self._flights
        frames = largest_chunk(self._policies, values.whole("chunk_frames"))
        if first:
            frames = 1 if values.toggle("one_frame_start") else self._policies.first_frames or frames
        count = self._pictures(frames, first=first)
        denoising, told, timesteps = self._ready(values, frames)
        width, height = self.size
        shape = (frames, self._codec.latent_channels, height // self._codec.factor, width // self._codec.factor)
        entered = self._entry.from_noise(values, timesteps, shape)
        moments = tuple(self._moment(self._clock(), self._next_index) for _ in range(count))
        self._owed = count
        self._enter(denoising, entered, told, _Flight(moments, None), values)

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
        return self._codec.encode_alone(self._shown[0]) if len(self._shown) == self._shown.maxlen else latent

    def _enter(self, denoising: Denoising, entered: Entered, told: PromptKeysValues, flight: _Flight, values: Snapshot) -> None:
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
            flight = self._flights.pop(chunk.tag)
            with self._timer.stage("decode"):
                # A decoder that has run already gives more pictures than the encoder's very first chunk took.
                pictures = self._codec.decode(chunk.latent)[:, -len(flight.moments) :]
            self._decoded_any = True
            self._shown.extend(pictures[:, [place]] for place in self._ends(pictures.shape[1], chunk.frames))
            sound = (torch.isfinite(pictures).flatten(2).all(2) & torch.isfinite(chunk.latent).all())[0].to(torch.uint8)
            amount = values.number("mix")
            if flight.dry is not None and amount < 1.0:
                pictures = mix(flight.dry.to(pictures.dtype), pictures, amount)
            width, height = self._output_size or self.size
            shown = to_bgra(fit(pictures[0], width, height, values.text("fit")))
            self._arriving.append(_Arriving(flight.moments, self._transfer.download(shown, sound)))

    def _ends(self, pictures: int, frames: int) -> list[int]:
        """Which of a chunk's pictures are the last of its latent frames."""
        return [max(0, pictures - 1 - place * self._codec.pictures_per_latent) for place in range(frames)][::-1]

    def _collect(self, leave: int) -> list[Frame]:
        """Pictures that may come out; `leave` chunks may still be on their way if they have not come yet."""
        found = []
        while self._arriving and (len(self._arriving) > leave or self._arriving[0].download.ready):
            arrived = self._arriving.popleft()
            pixels, sound = arrived.download.pixels()
            real = [moment.captured_at for moment in arrived.moments if moment.index != FILLER]
            self._deadline.shown(real, self._clock())
            for moment, picture, good in zip(arrived.moments, pixels, sound, strict=True):
                if moment.index == FILLER:
                    continue
                if good:
                    found.append(Frame(picture, PixelFormat.BGRX, moment.captured_at, moment.index))
                else:
                    self._problems = [NO_NUMBERS]
        return found
