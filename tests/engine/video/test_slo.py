"""The deadline controller on synthetic GPUs: within bounds for any times, at rest when they are constant, back when trouble ends."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.video.slo import Bounds, ChunkPlan, DeadlineControl, Slo, forecast
from engine.video.slo_costs import Costs, StageTimes

BOUNDS = Bounds(chunks=(1, 2, 3), fewest_steps=1, most_steps=4)
SLO = Slo(deadline_seconds=0.6, input_fps=16)


class Gpu:
    """Stage times of a machine: an overhead and a part that grows with the work, all times `slowness`."""

    def __init__(self, *, overhead: float = 0.02, forward: float = 0.03, codec: float = 0.03, slowness: float = 1.0) -> None:
        self.overhead, self.forward, self.codec, self.slowness = overhead, forward, codec, slowness

    def times(self, plan: ChunkPlan, *, factor: float = 1.0) -> StageTimes:
        scale = self.slowness * factor
        forward = self.overhead + self.forward * plan.chunk * plan.rows
        return StageTimes(encode=self.codec * plan.chunk * scale, forward=forward * scale, decode=self.codec * plan.chunk * scale)

    def seconds(self, plan: ChunkPlan) -> float:
        times = self.times(plan)
        return times.encode + plan.calls * times.forward + times.decode


def run(control: DeadlineControl, gpu: Gpu, chunks: int, *, jitter: float = 0.0, seed: int = 0) -> list[ChunkPlan]:
    rng = random.Random(seed)
    return [control.chunk_done(gpu.times(control.plan, factor=1 + rng.uniform(-jitter, jitter))) for _ in range(chunks)]


def changes(plans: list[ChunkPlan]) -> int:
    return sum(before != after for before, after in pairwise(plans))


def serves(plan: ChunkPlan, gpu: Gpu, slo: Slo = SLO, free: float = 1.0) -> bool:
    coming = forecast(plan, gpu.seconds(plan), slo)
    return coming.latency_seconds <= free * slo.deadline_seconds and coming.chunk_seconds <= free * plan.chunk * 4 / slo.input_fps


def test_forecast_worked_by_hand() -> None:
    slo = Slo(deadline_seconds=1, input_fps=16)
    alone = forecast(ChunkPlan(chunk=1, steps=2), 0.1, slo)
    assert alone.latency_seconds == pytest.approx(3 / 16 + 0.1) and alone.dropped == 0
    batch = forecast(ChunkPlan(chunk=1, steps=3, batched=True), 0.1, slo)
    assert batch.latency_seconds == pytest.approx(3 / 16 + 0.1 + 2 * 0.25), "two more chunk periods of 4 / 16 s"
    painted = forecast(ChunkPlan(chunk=1, steps=3, batched=True), 0.1, Slo(deadline_seconds=1, input_fps=16, waits=False))
    assert painted.latency_seconds == pytest.approx(0.1 + 2 * 0.25), "nothing is waited for"
    slow = forecast(ChunkPlan(chunk=1, steps=1), 0.5, slo)
    assert slow.dropped == pytest.approx(0.5) and slow.latency_seconds == pytest.approx(3 / 16 + 0.5)


def test_costs_lie_on_the_line_through_two_measurements() -> None:
    costs, gpu = Costs(), Gpu()
    for plan in (ChunkPlan(1, 1), ChunkPlan(2, 1)):
        costs.learn(plan, gpu.times(plan))
    for plan in BOUNDS.plans():
        assert costs.chunk_seconds(plan) == pytest.approx(gpu.seconds(plan))


def test_one_measurement_is_carried_to_other_sizes_with_the_assumed_overhead() -> None:
    costs = Costs()
    costs.learn(ChunkPlan(1, 2), StageTimes(encode=0.1, forward=0.1, decode=0.1))
    assert costs.of(ChunkPlan(1, 4)).forward == pytest.approx(0.1), "sequential calls do not grow with the steps"
    assert costs.of(ChunkPlan(1, 2, batched=True)).forward == pytest.approx(0.1 * (0.4 + 0.6 * 2))


def test_a_slower_machine_is_slower_for_the_plans_that_do_not_run_too() -> None:
    costs, gpu = Costs(), Gpu()
    known, running = ChunkPlan(3, 1), ChunkPlan(1, 1)
    costs.learn(known, gpu.times(known))
    for factor in (1, 1, 1, 2, 2, 2):
        costs.learn(running, gpu.times(running, factor=factor))
    assert costs.chunk_seconds(known) == pytest.approx(2 * gpu.seconds(known))


def test_one_outlier_changes_nothing() -> None:
    control, gpu = DeadlineControl(SLO, BOUNDS), Gpu(slowness=0.5)
    run(control, gpu, 20)
    plan = control.plan
    for _ in range(10):
        control.chunk_done(gpu.times(plan, factor=20))
        assert run(control, gpu, 5) == [plan] * 5


def test_a_fast_machine_runs_all_steps_sequentially_one_latent_frame_at_a_time() -> None:
    assert run(DeadlineControl(SLO, BOUNDS), Gpu(slowness=0.3), 50)[-1] == ChunkPlan(chunk=1, steps=4, batched=False)


def test_calls_that_are_mostly_overhead_are_batched_if_the_deadline_has_room() -> None:
    """Four sequential calls take longer than a chunk's period, one call of four rows does not."""
    gpu = Gpu(overhead=0.08, forward=0.005, codec=0.01)
    patient = Slo(deadline_seconds=1.5, input_fps=16)
    only_small = Bounds(chunks=(1,), fewest_steps=1, most_steps=4)
    assert run(DeadlineControl(patient, only_small), gpu, 200)[-1] == ChunkPlan(chunk=1, steps=4, batched=True)
    assert run(DeadlineControl(SLO, only_small), gpu, 200)[-1] == ChunkPlan(chunk=1, steps=2, batched=False)


def test_larger_chunks_are_made_where_small_ones_cannot_keep_up() -> None:
    gpu = Gpu(overhead=0.2, forward=0.01, codec=0.005)
    slo, bounds = Slo(deadline_seconds=1.5, input_fps=16), Bounds(chunks=(1, 3), fewest_steps=2, most_steps=2, batched=(False,))
    assert run(DeadlineControl(slo, bounds), gpu, 100)[-1] == ChunkPlan(chunk=3, steps=2)


def test_input_is_dropped_rather_than_the_deadline_missed() -> None:
    gpu = Gpu(overhead=0.0, forward=0.25, codec=0.025)
    control = DeadlineControl(SLO, Bounds(chunks=(1, 2), most_steps=4))
    plan = run(control, gpu, 100)[-1]
    coming = forecast(plan, gpu.seconds(plan), SLO)
    assert plan == ChunkPlan(1, 1) and coming.latency_seconds < SLO.deadline_seconds and coming.dropped == pytest.approx(1 / 6)


def test_where_no_plan_holds_the_deadline_the_quickest_runs() -> None:
    assert run(DeadlineControl(SLO, BOUNDS), Gpu(slowness=100), 100)[-1] == ChunkPlan(1, 1)


def test_trouble_is_answered_within_a_few_chunks_and_forgotten_when_it_ends() -> None:
    control, gpu = DeadlineControl(SLO, BOUNDS), Gpu(slowness=0.5)
    calm = run(control, gpu, 50)[-1]
    gpu.slowness = 1.6
    assert serves(run(control, gpu, 12)[-1], gpu)
    gpu.slowness = 0.5
    assert run(control, gpu, 60)[-1] == calm


def test_bounds_that_change_while_it_runs_hold_at_once() -> None:
    control, gpu = DeadlineControl(SLO, BOUNDS), Gpu(slowness=0.3)
    run(control, gpu, 20)
    narrow = Bounds(chunks=(2,), fewest_steps=1, most_steps=2, batched=(False,))
    assert control.promise(SLO, narrow) in narrow.plans()
    assert set(run(control, gpu, 50)) <= set(narrow.plans())


def test_warm_up_measurements_spare_the_wrong_turns() -> None:
    gpu = Gpu()
    control = DeadlineControl(SLO, BOUNDS)
    for plan in (ChunkPlan(1, 1), ChunkPlan(1, 4, batched=True)):
        control.learn(plan, gpu.times(plan))
    plans = run(control, gpu, 100)
    assert serves(plans[-1], gpu) and changes(plans) <= 1


def test_odd_promises_and_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="promise"):
        Slo(deadline_seconds=0, input_fps=16)
    for bounds in ({"chunks": ()}, {"chunks": (0,)}, {"fewest_steps": 3, "most_steps": 2}, {"batched": ()}):
        with pytest.raises(ValueError, match="no plan"):
            Bounds(**bounds)
    with pytest.raises(ValueError, match="not within"):
        DeadlineControl(SLO, Bounds(most_steps=2), start=ChunkPlan(1, 4))


SECONDS = st.floats(0.0, 5.0)
TIMES = st.builds(StageTimes, encode=SECONDS, forward=SECONDS, decode=SECONDS)
SOME_BOUNDS = st.builds(
    lambda chunks, fewest, more, batched: Bounds(tuple(chunks), fewest, fewest + more, tuple(batched)),
    st.sets(st.integers(1, 7), min_size=1, max_size=3), st.integers(1, 3), st.integers(0, 3),
    st.sets(st.booleans(), min_size=1),
)  # fmt: skip
SLOS = st.builds(Slo, deadline_seconds=st.floats(0.05, 5), input_fps=st.floats(1, 60))
GPUS = st.builds(Gpu, overhead=st.floats(0, 0.2), forward=st.floats(0.001, 0.2), codec=st.floats(0, 0.1), slowness=st.floats(0.05, 10))


@settings(deadline=None)
@given(SLOS, SOME_BOUNDS, st.lists(TIMES, max_size=60))
def test_no_measured_times_lead_out_of_the_bounds(slo: Slo, bounds: Bounds, measured: list[StageTimes]) -> None:
    control, allowed = DeadlineControl(slo, bounds), set(bounds.plans())
    assert control.plan in allowed
    for times in measured:
        assert control.chunk_done(times) in allowed


@settings(deadline=None, max_examples=40)
@given(SLOS, SOME_BOUNDS, GPUS)
def test_constant_times_come_to_rest(slo: Slo, bounds: Bounds, gpu: Gpu) -> None:
    control = DeadlineControl(slo, bounds)
    run(control, gpu, 300)
    plans = run(control, gpu, 200)
    assert len(set(plans)) == 1


@settings(deadline=None, max_examples=40)
@given(SLOS, SOME_BOUNDS, GPUS)
def test_at_rest_the_plan_serves_if_any_serves_with_room(slo: Slo, bounds: Bounds, gpu: Gpu) -> None:
    """What two measured sizes teach is exact on a machine of this kind, so a plan that serves is found."""
    control = DeadlineControl(slo, bounds)
    for plan in (ChunkPlan(1, 1), ChunkPlan(2, 1)):
        control.learn(plan, gpu.times(plan))
    plan = run(control, gpu, 200)[-1]
    with_room = [other for other in bounds.plans() if serves(other, gpu, slo, 0.849)]
    if with_room:
        assert serves(plan, gpu, slo, 1.001)
        assert bounds.plans().index(plan) <= bounds.plans().index(with_room[0])


@settings(deadline=None, max_examples=25)
@given(SLOS, SOME_BOUNDS, GPUS, st.integers(0, 1000))
def test_times_that_scatter_by_a_tenth_hardly_ever_change_the_plan(slo: Slo, bounds: Bounds, gpu: Gpu, seed: int) -> None:
    control = DeadlineControl(slo, bounds)
    run(control, gpu, 400, jitter=0.1, seed=seed)
    assert changes(run(control, gpu, 400, jitter=0.1, seed=seed + 1)) <= 4


@settings(deadline=None, max_examples=25)
@given(SLOS, SOME_BOUNDS, GPUS, st.floats(1.2, 8))
def test_after_any_trouble_it_is_as_good_as_before(slo: Slo, bounds: Bounds, gpu: Gpu, trouble: float) -> None:
    control = DeadlineControl(slo, bounds)
    for plan in (ChunkPlan(1, 1), ChunkPlan(2, 1)):
        control.learn(plan, gpu.times(plan))
    before = run(control, gpu, 200)[-1]
    calm = gpu.slowness
    gpu.slowness = calm * trouble
    run(control, gpu, 50)
    gpu.slowness = calm
    after = run(control, gpu, 400)[-1]
    if serves(before, gpu, slo, 0.849):
        assert serves(after, gpu, slo, 1.001)
        assert bounds.plans().index(after) <= bounds.plans().index(before)


@pytest.mark.parametrize("tightness", [0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2])
def test_a_machine_that_scatters_around_the_deadline_does_not_swing(tightness: float) -> None:
    gpu, bounds, plan = Gpu(), Bounds(chunks=(1,), batched=(False,)), ChunkPlan(chunk=1, steps=3)
    needed = forecast(plan, gpu.seconds(plan), Slo(deadline_seconds=1, input_fps=12)).latency_seconds
    control = DeadlineControl(Slo(deadline_seconds=tightness * needed, input_fps=12), bounds)
    assert changes(run(control, gpu, 2000, jitter=0.4, seed=1)) <= 12
