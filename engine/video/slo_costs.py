"""What a chunk costs under each plan: stage times learned from measurements, and guessed where nothing was measured yet.

Pure: seconds come in and go out, there is no clock here. Who decides by these costs is `slo`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MEASURES = 5
"""A stage's time is the second largest of so many of its last measurements: one outlier changes nothing, two are news."""
SETTLED = 3
"""Measurements under a plan from which on they count as more than what was known before."""
OVERHEAD = 0.4
"""Share of a call that does not grow with its work, assumed until two sizes of work were measured."""


@dataclass(frozen=True, slots=True, order=True)
class ChunkPlan:
    """How chunks are made. chunk: latent frames in one; steps: denoising steps; batched: stream batch instead of sequential steps."""

    chunk: int
    steps: int
    batched: bool = False

    @property
    def rows(self) -> int:
        """Rows in a denoiser call."""
        return self.steps if self.batched else 1

    @property
    def calls(self) -> int:
        """Denoiser calls for each chunk."""
        return 1 if self.batched else self.steps


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Seconds of one chunk: encode, one denoiser call (forward), decode."""

    encode: float
    forward: float
    decode: float


class Curve:
    """Seconds of a stage by its amount of work (latent frames, times rows for the denoiser), which different layouts may share."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], float] = {}

    def knows(self, layout: tuple[int, int]) -> bool:
        """Whether it was measured for these latent frames and rows."""
        return layout in self._known

    def learn(self, layout: tuple[int, int], seconds: float, *, shared: bool) -> None:
        """layout: latent frames and rows. shared: what changed since then changed the machine, so every layout by as much."""
        before = self._known.get(layout)
        if shared and before is not None and before > 0:
            self._known = {key: known * seconds / before for key, known in self._known.items()}
        self._known[layout] = seconds

    def least(self, layout: tuple[int, int]) -> float:
        """As `seconds`, but an unmeasured layout is hoped to cost no more than the cheapest that was measured."""
        return self._known.get(layout, min(self._known.values(), default=0.0))

    def seconds(self, layout: tuple[int, int]) -> float:
        """Known, or on the line through what is known: never less for more work. 0 if nothing is known at all."""
        if layout in self._known:
            return self._known[layout]
        work = layout[0] * layout[1]
        by_work: dict[int, list[float]] = {}
        for (chunk, rows), known in self._known.items():
            by_work.setdefault(chunk * rows, []).append(known)
        points = sorted((amount, sum(values) / len(values)) for amount, values in by_work.items())
        if not points:
            return 0.0
        if len(points) == 1:
            (amount, known) = points[0]
            return known * (OVERHEAD + (1.0 - OVERHEAD) * work / amount)
        return _on_line(points, work)


def _high(measured: Sequence[float]) -> float:
    """The second largest, of one the one."""
    return sorted(measured)[-2] if len(measured) > 1 else measured[0]


def _on_line(points: list[tuple[int, float]], work: int) -> float:
    """On the piece of the line at `work`, drawn on at both ends; at least 0, and a falling piece counts as level."""
    above = next((i for i, (amount, _) in enumerate(points) if amount >= work), len(points) - 1)
    i = max(above, 1)
    (x0, y0), (x1, y1) = points[i - 1], points[i]
    slope = max((y1 - y0) / (x1 - x0), 0.0)
    return max(y0 + slope * (work - x0), 0.0)


class Costs:
    """Stage times of every plan, fed with those measured under the plan that runs."""

    def __init__(self) -> None:
        self._encode, self._forward, self._decode = Curve(), Curve(), Curve()
        self._running: ChunkPlan | None = None
        self._recent: list[StageTimes] = []
        self._settled = False

    def learn(self, plan: ChunkPlan, times: StageTimes) -> None:
        """Measured under `plan`: of the running stream, chunk by chunk, or once at warm-up."""
        if plan != self._running:
            self._running, self._recent, self._settled = plan, [], False
        self._recent = [*self._recent, times][-MEASURES:]
        if len(self._recent) < SETTLED and self._forward.knows((plan.chunk, plan.rows)):
            return
        for curve, layout, seconds in (
            (self._encode, (plan.chunk, 1), _high([times.encode for times in self._recent])),
            (self._forward, (plan.chunk, plan.rows), _high([times.forward for times in self._recent])),
            (self._decode, (plan.chunk, 1), _high([times.decode for times in self._recent])),
        ):
            curve.learn(layout, seconds, shared=self._settled)
        self._settled = len(self._recent) >= SETTLED

    @property
    def settled(self) -> bool:
        """Whether the running plan was measured often enough to be judged."""
        return self._settled

    def of(self, plan: ChunkPlan) -> StageTimes:
        """What the stages of a chunk take, or are guessed to take, under `plan`."""
        return StageTimes(
            encode=self._encode.seconds((plan.chunk, 1)),
            forward=self._forward.seconds((plan.chunk, plan.rows)),
            decode=self._decode.seconds((plan.chunk, 1)),
        )

    def measured(self, plan: ChunkPlan) -> bool:
        """Whether a call of this size was measured, so that the costs are no guess."""
        return self._forward.knows((plan.chunk, plan.rows))

    def least_seconds(self, plan: ChunkPlan) -> float:
        """As `chunk_seconds`, if calls of a size not measured yet were all overhead."""
        return self.chunk_seconds(plan) + plan.calls * (
            self._forward.least((plan.chunk, plan.rows)) - self._forward.seconds((plan.chunk, plan.rows))
        )

    def chunk_seconds(self, plan: ChunkPlan) -> float:
        """Encode, all denoiser calls and decode of one chunk, one after the other."""
        times = self.of(plan)
        return times.encode + plan.calls * times.forward + times.decode
