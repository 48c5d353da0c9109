"""A deadline for every frame of a video stream: measured times in, the plan of the next chunk out; what was promised and kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from engine.control.live_values import Snapshot
from engine.video.slo import Bounds, DeadlineControl, Slo
from engine.video.slo_costs import ChunkPlan, StageTimes
from engine.video.slo_report import Punctuality, PunctualityMeter

INTERVALS = 32
"""Times between frames that the rate of the input is taken from."""
ANOTHER_RATE = 0.1
"""The rate counts as another one when it differs by this share."""
USUAL_FPS = 30.0
LARGEST_GROWTH = 2
"""A chunk may become so many times the model's own, to save calls."""


class Deadline:
    """Holds the parameter `deadline`, if it is set, by chunk size, steps and stream batch.

    pictures: of one latent frame. started_at: monotonic seconds, for the time to the first frame.
    """

    def __init__(self, *, pictures: int, started_at: float) -> None:
        self._pictures = pictures
        self._captured: deque[float] = deque(maxlen=INTERVALS + 1)
        self._control: DeadlineControl | None = None
        self._promise: tuple[Slo, Bounds] | None = None
        self.restart(started_at)

    def restart(self, started_at: float) -> None:
        """A new stream: its report starts, what was learned stays."""
        self._meter = PunctualityMeter(started_at)
        self._deadline = float("inf")
        self._captured.clear()

    def captured(self, moment: float) -> None:
        """A frame was taken in that was captured at `moment`, monotonic seconds."""
        self._captured.append(moment)
        self._meter.began(moment)

    @property
    def input_fps(self) -> float:
        """Frames captured a second, lately."""
        span = self._captured[-1] - self._captured[0] if len(self._captured) > 1 else 0.0
        return (len(self._captured) - 1) / span if span > 0 else USUAL_FPS

    def only_count(self, values: Snapshot) -> bool:
        """Count what comes too late and change nothing about how chunks are made; whether there is a deadline at all."""
        self._deadline = values.number("deadline") / 1000.0 or float("inf")
        self._control = self._promise = None
        return self._deadline < float("inf")

    def plan(self, values: Snapshot, natural: ChunkPlan, *, largest: int, can_batch: bool, painted: bool = False) -> ChunkPlan:
        """How the next chunk is made: as the values say (`natural`) without a deadline, else with at most its steps.

        largest: latent frames that fit the window. can_batch: whether the model may share calls between chunks. painted: out of
        noise at the pace of the output, so no frame waits for its chunk to fill.
        """
        if not values.number("deadline"):
            self.only_count(values)
            return natural
        self._deadline = values.number("deadline") / 1000.0
        slo, bounds = promise = (self._slo(values, waits=not painted), self._bounds(values, natural, largest, can_batch))
        if self._control is None or (self._promise is not None and self._promise[0].waits != slo.waits):
            start = natural if natural in bounds.plans() else None
            self._control = DeadlineControl(*promise, start=start)
        elif promise != self._promise:
            self._control.promise(*promise)
        self._promise = promise
        return self._control.plan

    def _slo(self, values: Snapshot, *, waits: bool) -> Slo:
        """What is promised; a rate that is nearly the last one is the last one."""
        fps = self.input_fps if waits else values.number("output_fps") or USUAL_FPS
        before = None if self._promise is None else self._promise[0].input_fps
        if before is not None and abs(fps - before) <= ANOTHER_RATE * before:
            fps = before
        return Slo(deadline_seconds=self._deadline, input_fps=fps, pictures=self._pictures, waits=waits)

    def _bounds(self, values: Snapshot, natural: ChunkPlan, largest: int, can_batch: bool) -> Bounds:
        return Bounds(
            chunks=tuple(sorted({natural.chunk, min(largest, LARGEST_GROWTH * natural.chunk)})),
            fewest_steps=min(values.whole("fewest_steps"), natural.steps),
            most_steps=natural.steps,
            batched=(False, True) if can_batch else (natural.batched,),
        )

    def chunk_done(self, stage_ms: dict[str, float], *, calls: int, reruns: int = 0) -> None:
        """A chunk was made under the last plan in these newest measurements of the stages. `denoise` was `calls` calls for its steps
        and `reruns` that every plan has; these count to what comes after the steps.
        """
        if self._control is not None and {"encode", "denoise", "decode"} <= stage_ms.keys():
            encode, denoise, decode = (stage_ms[name] / 1000.0 for name in ("encode", "denoise", "decode"))
            forward = denoise / (calls + reruns)
            self._control.chunk_done(StageTimes(encode=encode, forward=forward, decode=decode + reruns * forward))

    def shown(self, captured_at: Sequence[float], finished_at: float) -> None:
        """Frames of one chunk have come to the host."""
        self._meter.finished(captured_at, finished_at, self._deadline)

    def dropped(self, frames: int) -> None:
        """Frames were left out."""
        self._meter.dropped(frames)

    def report(self) -> Punctuality:
        """Misses, latency, jitter and time to the first frame of this stream."""
        return self._meter.report()
