"""Holding a deadline for every frame: which chunk size, how many steps, sequential or stream batch, decided from measured stage times.

Pure: stage times come in, the plan for the next chunk comes out; no clock, no thread. The aim is StreamDiffusionV2's
"SLO-aware" scheduling (Feng et al. 2025, section 3), with every choice compared by the costs that were measured.

A plan serves if the oldest frame of a chunk is shown within the deadline and chunks are made as fast as their frames come. Among those
that serve the most steps win, then sequential steps, then the smallest chunk. If none seems to, plans of a size never measured that might
are tried, once each. If none serves, the deadline goes before the rate: frames are dropped (newest wins), as few as possible; and if
no plan holds the deadline, the one with the least latency runs.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.video.slo_costs import ChunkPlan, Costs, StageTimes

PATIENCE = 8
"""Chunks in a row for which a better plan must promise to serve before it is taken."""
LONGEST_PATIENCE = 1024
"""Every change for the better that had to be taken back doubles the patience, up to this."""
FORGIVEN = 4
"""A better plan that holds for so many times the patience has proved itself: the patience is what it was."""


@dataclass(frozen=True, slots=True)
class Slo:
    """What is promised. deadline_seconds: from capture to finished, for every frame; input_fps: frames captured a second.

    pictures: pictures of one latent frame. headroom: share of deadline and rate that a plan must leave free when it is taken.
    waits: whether the frames of a chunk come one after the other, so that the oldest waits for the newest; else they are made out of
    nothing, at `input_fps` a second, and captured when their chunk is begun.
    """

    deadline_seconds: float
    input_fps: float
    pictures: int = 4
    headroom: float = 0.15
    waits: bool = True

    def __post_init__(self) -> None:
        if not (self.deadline_seconds > 0 and self.input_fps > 0 and self.pictures >= 1 and 0 <= self.headroom < 1):
            raise ValueError(f"no promise that can be held: {self}")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Which plans may be chosen. chunks: latent frames; steps from fewest to most; batched: which of sequential (False) and batch."""

    chunks: tuple[int, ...] = (1,)
    fewest_steps: int = 1
    most_steps: int = 4
    batched: tuple[bool, ...] = (False, True)

    def __post_init__(self) -> None:
        if not self.chunks or min(self.chunks) < 1 or not 1 <= self.fewest_steps <= self.most_steps or not self.batched:
            raise ValueError(f"no plan lies within {self}")

    def plans(self) -> tuple[ChunkPlan, ...]:
        """All of them, the most wanted first. One step alone is no batch, unless sequential steps are not allowed."""
        steps = range(self.most_steps, self.fewest_steps - 1, -1)
        modes = sorted(set(self.batched))
        return tuple(
            ChunkPlan(chunk=chunk, steps=count, batched=batched)
            for count in steps
            for batched in (modes if count > 1 else modes[:1])
            for chunk in sorted(set(self.chunks))
        )


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a plan comes to: chunk_seconds from chunk to chunk, latency_seconds of the oldest frame, dropped share of the input."""

    chunk_seconds: float
    latency_seconds: float
    dropped: float


def forecast(plan: ChunkPlan, chunk_seconds: float, slo: Slo) -> Forecast:
    """chunk_seconds: encode, denoiser calls and decode. The oldest frame waits for its chunk to fill, and in a batch for
    every further step until the next chunk pushes it on.
    """
    pictures = plan.chunk * slo.pictures
    period = pictures / slo.input_fps
    filling = (pictures - 1) / slo.input_fps if slo.waits else 0.0
    latency = filling + chunk_seconds + (plan.rows - 1) * max(chunk_seconds, period)
    dropped = max(0.0, 1.0 - period / chunk_seconds) if chunk_seconds > 0 else 0.0
    return Forecast(chunk_seconds=chunk_seconds, latency_seconds=latency, dropped=dropped)


class DeadlineControl:
    """Chooses the plan of the next chunk. Bad news acts once it is settled, good news only when it lasts: so it does not swing."""

    def __init__(self, slo: Slo, bounds: Bounds, *, start: ChunkPlan | None = None) -> None:
        """start: the plan of the first chunk; the most wanted if None. Raises ValueError if it is not within the bounds."""
        self._slo, self._bounds = slo, bounds
        self._plans = bounds.plans()
        self._costs = Costs()
        self._plan = self._plans[0] if start is None else start
        if self._plan not in self._plans:
            raise ValueError(f"{start} is not within {bounds}")
        self._patience, self._promising, self._held = PATIENCE, 0, 0
        self._climbed = False

    @property
    def plan(self) -> ChunkPlan:
        """The plan of the next chunk."""
        return self._plan

    def expect(self, plan: ChunkPlan) -> Forecast:
        """What `plan` is thought to come to now."""
        return forecast(plan, self._costs.chunk_seconds(plan), self._slo)

    def learn(self, plan: ChunkPlan, times: StageTimes) -> None:
        """A measurement from warm-up: teaches what a plan costs and changes nothing yet."""
        self._costs.learn(plan, times)

    def promise(self, slo: Slo, bounds: Bounds) -> ChunkPlan:
        """Another promise or other bounds; what was learned stays. Returns the plan of the next chunk, at once within the bounds."""
        self._slo, self._bounds, self._plans = slo, bounds, bounds.plans()
        if self._plan not in self._plans:
            self._take(self._best(headroom=slo.headroom), climbing=False)
        return self._plan

    def chunk_done(self, times: StageTimes) -> ChunkPlan:
        """One chunk was made under `plan` in these times. Returns the plan of the next chunk."""
        self._costs.learn(self._plan, times)
        self._held += 1
        if self._climbed and self._held >= FORGIVEN * self._patience:
            self._climbed, self._patience = False, PATIENCE
        if not self._costs.settled:
            return self._plan
        best = self._best(headroom=self._slo.headroom)
        if not self._serves(self._plan, headroom=0.0):
            self._leave(best)
        elif self._serves(best, headroom=self._slo.headroom) and self._plans.index(best) < self._plans.index(self._plan):
            self._promising += 1
            if self._promising >= self._patience:
                self._take(best, climbing=True)
        else:
            self._promising = 0
        return self._plan

    def _leave(self, best: ChunkPlan) -> None:
        """The plan does not serve: to the best, or to one that might serve and was never tried."""
        headroom = self._slo.headroom
        if not self._serves(best, headroom=headroom):
            untried = (plan for plan in self._plans if not self._costs.measured(plan))
            hopeful = (plan for plan in untried if self._rank_at(plan, self._costs.least_seconds(plan), headroom)[0] == 0)
            best = next(hopeful, best)
            if not self._costs.measured(best):
                self._take(best, climbing=False)
                return
        if best != self._plan and self._better(best, self._plan):
            self._take(best, climbing=False)

    def _take(self, plan: ChunkPlan, *, climbing: bool) -> None:
        if self._climbed and not climbing:
            self._patience = min(2 * self._patience, LONGEST_PATIENCE)
        self._climbed = climbing
        self._plan, self._promising, self._held = plan, 0, 0

    def _serves(self, plan: ChunkPlan, *, headroom: float) -> bool:
        return self._rank(plan, headroom=headroom)[0] == 0

    def _rank(self, plan: ChunkPlan, *, headroom: float) -> tuple[int, float]:
        return self._rank_at(plan, self._costs.chunk_seconds(plan), headroom)

    def _rank_at(self, plan: ChunkPlan, chunk_seconds: float, headroom: float) -> tuple[int, float]:
        """(0, place among the wanted), (1, seconds a frame) if only the rate fails, (2, latency) if the deadline fails; the least is
        best.
        """
        coming = forecast(plan, chunk_seconds, self._slo)
        free = 1.0 - headroom
        if coming.latency_seconds > free * self._slo.deadline_seconds:
            return 2, coming.latency_seconds
        period = plan.chunk * self._slo.pictures / self._slo.input_fps
        if coming.chunk_seconds > free * period:
            return 1, coming.chunk_seconds / plan.chunk
        return 0, float(self._plans.index(plan))

    def _best(self, *, headroom: float) -> ChunkPlan:
        return min(self._plans, key=lambda plan: self._rank(plan, headroom=headroom))

    def _better(self, best: ChunkPlan, now: ChunkPlan) -> bool:
        """Whether leaving `now` is worth it: another kind of trouble, or the same by more than the headroom."""
        kind, amount = self._rank(best, headroom=self._slo.headroom)
        kind_now, amount_now = self._rank(now, headroom=0.0)
        return kind < kind_now or (kind == kind_now and amount < (1.0 - self._slo.headroom) * amount_now)
