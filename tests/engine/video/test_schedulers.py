"""Step schedulers against each other and against what they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from engine.models.video_policies import VideoPolicies
from engine.pipelines.denoising import DenoisingHere, ThisProcess
from engine.pipelines.video_parts import DenoisingKind
from engine.video.cache_policies import AdaptiveSinks, RingWithSinks
from engine.video.moving_buffer import MovingBuffer
from engine.video.rollout import Prompt, Rollout
from engine.video.schedule import clean_of, noised
from engine.video.schedulers import Chunk, Sequential, StepScheduler, StreamBatch
from tests.engine.video import tiny

STEPS = (700.0, 500.0, 200.0)


def finished(scheduler: StepScheduler, run: Rollout, count: int, *, frames: int = 1) -> list[Chunk]:
    found: list[Chunk] = []
    with torch.inference_mode():
        for number in range(1, count + 1):
            found += scheduler.enter(tiny.chunk(run, number, frames=frames, steps=tiny.levels(*STEPS)))
        return found + scheduler.flush()


def same(a: list[Chunk], b: list[Chunk], *, atol: float = 2e-6) -> bool:
    assert [chunk.tag for chunk in a] == [chunk.tag for chunk in b]
    return all(torch.allclose(x.latent, y.latent, atol=atol) for x, y in zip(a, b, strict=True))


@torch.inference_mode()
def test_sequential_is_the_few_step_formula() -> None:
    run, by_hand = tiny.rollout(RingWithSinks(window=3)), tiny.rollout(RingWithSinks(window=3))
    chunk = tiny.chunk(run, 1, steps=tiny.levels(*STEPS))
    x, levels = chunk.latent, chunk.levels
    by_hand.admit(0, 1, 0)
    for step in range(3):
        x0 = clean_of(x, by_hand.denoise(x, levels.timesteps[step][None], (chunk.prompt,)), levels.sigmas[step])
        x = noised(x0, chunk.noise[step][None], levels.sigmas[step + 1]) if step < 2 else x0
    assert torch.equal(Sequential(run).enter(chunk)[0].latent, x)
    assert torch.equal(run.cache.keys, by_hand.cache.keys)


@torch.inference_mode()
def test_the_clean_rerun_keeps_what_a_clean_pass_would_write() -> None:
    run, plain = tiny.rollout(RingWithSinks(window=4)), tiny.rollout(RingWithSinks(window=4))
    done = finished(Sequential(run, clean_timestep=0.0), run, 3)
    for number, chunk in enumerate(done):
        plain.admit(0, 1, number)
        plain.denoise(chunk.latent, torch.zeros(1), (chunk.prompt,))
    assert torch.allclose(run.cache.keys, plain.cache.keys, atol=1e-6)


def test_a_stream_batch_gives_what_each_step_alone_in_its_own_cache_gives() -> None:
    run = tiny.rollout(RingWithSinks(window=4, sinks=1), rows=3)
    found = finished(StreamBatch(run), run, 9)
    alone = tiny.rollout(RingWithSinks(window=4, sinks=1), rows=3)
    scheduler = StreamBatch(alone)
    expected: list[Chunk] = []
    with torch.inference_mode():
        for number in range(1, 10):
            expected += scheduler._alone(tiny.chunk(alone, number, steps=tiny.levels(*STEPS)))
    assert same(found, expected)


def test_a_stream_batch_begins_with_a_picture_and_then_is_late_by_its_steps() -> None:
    run = tiny.rollout(RingWithSinks(window=4), rows=3)
    scheduler = StreamBatch(run)
    counts = []
    with torch.inference_mode():
        for number in range(1, 7):
            counts.append([chunk.tag for chunk in scheduler.enter(tiny.chunk(run, number, steps=tiny.levels(*STEPS)))])
    assert counts == [[1], [], [], [2], [3], [4]]
    assert scheduler.in_flight == 2
    assert [chunk.tag for chunk in scheduler.flush()] == [5, 6]


def test_a_change_of_steps_or_chunk_size_finishes_those_in_flight_first() -> None:
    run = tiny.rollout(RingWithSinks(window=6), rows=3)
    scheduler = StreamBatch(run)
    with torch.inference_mode():
        for number in (1, 2):
            scheduler.enter(tiny.chunk(run, number, steps=tiny.levels(*STEPS)))
        changed = scheduler.enter(tiny.chunk(run, 3, steps=tiny.levels(700.0)))
    assert [chunk.tag for chunk in changed] == [2, 3]
    assert all(torch.isfinite(chunk.latent).all() for chunk in changed)


def test_more_steps_than_rows_are_refused() -> None:
    run = tiny.rollout(RingWithSinks(window=3), rows=2)
    with pytest.raises(ValueError, match="3 steps need as many rows"):
        finished(StreamBatch(run), run, 1)


def test_one_row_of_a_batch_with_adaptive_sinks_decides_for_itself() -> None:
    run = tiny.rollout(AdaptiveSinks(window=4, sinks=2, threshold=0.9), rows=3)
    found = finished(StreamBatch(run), run, 9)
    alone = tiny.rollout(AdaptiveSinks(window=4, sinks=2, threshold=0.9), rows=3)
    scheduler = StreamBatch(alone)
    expected: list[Chunk] = []
    with torch.inference_mode():
        for number in range(1, 10):
            expected += scheduler._alone(tiny.chunk(alone, number, steps=tiny.levels(*STEPS)))
    assert same(found, expected)
    layers = run.cache.written
    assert not torch.equal(layers[0], layers[1]) or not torch.equal(layers[:, 0], layers[:, 1])


def test_a_moving_buffer_of_one_partition_is_sequential_with_a_clean_rerun() -> None:
    run = tiny.rollout(RingWithSinks(window=8), scratch=2)
    plain = tiny.rollout(RingWithSinks(window=8))
    found = finished(MovingBuffer(run, partitions=1), run, 4, frames=2)
    assert same(found, finished(Sequential(plain, clean_timestep=0.0), plain, 4, frames=2))


def test_partitions_leave_one_a_chunk_in_order_each_after_all_its_steps() -> None:
    run = tiny.rollout(RingWithSinks(window=4), scratch=6)
    scheduler = MovingBuffer(run, partitions=3)
    counts = []
    with torch.inference_mode():
        for number in range(1, 7):
            done = scheduler.enter(tiny.chunk(run, number, frames=2, steps=tiny.levels(900.0, 800.0, 600.0, 500.0, 300.0, 100.0)))
            assert all(chunk.step == 6 for chunk in done)
            counts.append([chunk.tag for chunk in done])
        assert counts == [[1], [], [], [2], [3], [4]]
        assert [chunk.tag for chunk in scheduler.flush()] == [5, 6]


@torch.inference_mode()
def test_a_partition_is_denoised_seeing_the_noisier_ones() -> None:
    run = tiny.rollout(RingWithSinks(window=4), scratch=2)
    scheduler = MovingBuffer(run, partitions=2, euler=True)
    steps = tiny.levels(800.0, 300.0)
    scheduler.enter(tiny.chunk(run, 1, steps=steps))
    scheduler.enter(tiny.chunk(run, 2, steps=steps))
    third = tiny.chunk(run, 3, steps=steps)
    second = scheduler._buffer[0]
    x = torch.cat([second.latent, third.latent], 1)
    velocity = run.glance(x, steps.timesteps.flip(0)[None], (second.prompt,), position=second.position)
    expected = clean_of(x, velocity, steps.sigmas.flip(0).view(1, 2, 1, 1, 1))
    euler = noised(expected[:, 1:], x[:, 1:] + (1 - steps.sigmas[0]) * velocity[:, 1:], steps.sigmas[1])
    assert torch.allclose(scheduler.enter(third)[0].latent, expected[:, :1], atol=1e-6)
    assert torch.allclose(third.latent, euler, atol=1e-5)


def test_steps_must_fall_evenly_on_partitions() -> None:
    run = tiny.rollout(RingWithSinks(window=4), scratch=2)
    with pytest.raises(ValueError, match="shared evenly"):
        finished(MovingBuffer(run, partitions=2), run, 1)


@pytest.mark.parametrize(("micro_steps", "late_by"), [(1, 3), (2, 1), (4, 0)])
def test_the_micro_steps_of_a_model_make_the_partitions_of_its_window(micro_steps: int, late_by: int) -> None:
    """Through the denoising of the stream: the chunks and the lateness of the class used directly."""
    steps = (900.0, 700.0, 500.0, 200.0)
    policies = VideoPolicies(frames=1, window=5, sinks=1, scheduler="rolling_window", micro_steps=micro_steps, timesteps=steps)
    here = DenoisingHere(tiny.network(), policies, DenoisingKind("rolling_window", len(steps), 1, (tiny.SIDE, tiny.SIDE)))
    direct = tiny.rollout(RingWithSinks(window=5, sinks=1), scratch=late_by + 1)
    buffer = MovingBuffer(direct, partitions=late_by + 1)
    found: list[Chunk] = []
    expected: list[Chunk] = []
    with torch.inference_mode():
        for number in range(1, 9):
            found += here.scheduler.enter(tiny.chunk(here.rollout, number, steps=tiny.levels(*steps)))
            expected += buffer.enter(tiny.chunk(direct, number, steps=tiny.levels(*steps)))
        assert here.scheduler.in_flight == buffer.in_flight == late_by and here.rollout.scratch == late_by + 1
        assert same(found + here.scheduler.flush(), expected + buffer.flush(), atol=0.0)


def test_micro_steps_that_do_not_divide_the_steps_are_refused_in_plain_words() -> None:
    steps = (900.0, 700.0, 500.0, 200.0)
    with pytest.raises(ValueError, match="4 timesteps cannot be shared evenly by micro_steps of 3"):
        VideoPolicies(timesteps=steps, micro_steps=3)
    policies = VideoPolicies(frames=1, window=4, scheduler="rolling_window", micro_steps=2, timesteps=steps)
    kind = DenoisingKind("rolling_window", 3, 1, (tiny.SIDE, tiny.SIDE))
    with pytest.raises(ValueError, match="3 steps cannot be shared evenly by micro-steps of 2"):
        DenoisingHere(tiny.network(), policies, kind)
    assert ThisProcess(tiny.network(), policies).begin(kind, None).rollout.scratch == 3  # turned live: one step at a time


class Coupled:
    """Stands for a rollout: the velocity of a frame depends on its level and on all frames of the window. Notes the timesteps told."""

    def __init__(self) -> None:
        self.told: list[list[float]] = []
        self.cache = SimpleNamespace(device=tiny.CPU)

    @staticmethod
    def velocity(frames: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Of [F, C, h, w] at [F]."""
        return torch.sin(3.0 * frames) * (timesteps / 1000.0).view(-1, 1, 1, 1) + 0.3 * frames.mean(0, keepdim=True)

    def glance(self, x: torch.Tensor, timesteps: torch.Tensor, prompts: Sequence[Prompt], *, position: int) -> torch.Tensor:
        self.told.append(timesteps[0].tolist())
        return self.velocity(x[0], timesteps[0])[None]

    def admit(self, row: int, frames: int, position: int) -> None: ...

    def denoise(self, x: torch.Tensor, timesteps: torch.Tensor, prompts: Sequence[Prompt]) -> None: ...

    def remember(self, latent: torch.Tensor) -> None: ...


def test_one_frame_and_one_micro_step_are_the_diagonal_of_fifo_diffusion() -> None:
    """Kim et al. 2024, algorithm 1, written down again: a queue whose i-th frame is at noise level i; every call takes the whole queue a
    level down, the clean frame leaves at the head, pure noise joins at the tail."""
    levels = tiny.levels(950.0, 800.0, 600.0, 350.0, 100.0)
    depth, sigmas = len(levels), [*levels.sigmas.tolist(), 0.0]
    noises = [tiny.latent(seed)[0] for seed in range(12)]

    queue: list[torch.Tensor] = []
    expected: list[torch.Tensor] = []
    for noise in noises[1:]:
        queue.append(noise)
        at = range(len(queue) - 1, -1, -1)  # the head has taken most steps
        velocities = Coupled.velocity(torch.cat(queue), torch.stack([levels.timesteps[step] for step in at]))
        queue = [x + (sigmas[step + 1] - sigmas[step]) * v for x, step, v in zip(queue, at, velocities, strict=True)]
        if len(queue) == depth:
            expected.append(queue.pop(0))

    stand_in = Coupled()
    buffer = MovingBuffer(cast(Rollout, stand_in), partitions=depth, euler=True)
    counts, found = [], []
    for number, noise in enumerate(noises):
        done = buffer.enter(Chunk(noise[None], levels, noise.new_zeros((depth - 1, *noise.shape)), number, prompt=None, tag=number))
        counts.append(len(done))
        found += [chunk.latent for chunk in done]
    assert counts == [1, *[0] * (depth - 1), *[1] * (len(noises) - depth)]  # the first alone, for a picture to be there at once
    rising = levels.timesteps.flip(0).tolist()
    assert stand_in.told[-(len(noises) - depth) :] == [rising] * (len(noises) - depth)
    assert len(stand_in.told) == depth + len(noises) - 1  # one call a frame
    for a, b in zip(found[1:], expected, strict=True):
        assert torch.allclose(a[0], b, atol=1e-5)
