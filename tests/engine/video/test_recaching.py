"""Contexts that are computed anew against a fresh stream of the same clean frames."""

from __future__ import annotations

import torch

from engine.video.cache_policies import RingWithSinks
from engine.video.recaching import KeepContext, RecacheOnSwitch, RecomputeLast, RollingSinkFrame, replay
from engine.video.rollout import Rollout
from engine.video.schedulers import Sequential, StreamBatch
from tests.engine.video import tiny

CLEAN = torch.zeros(1)


@torch.inference_mode()
def stream(run: Rollout, count: int, *, context: KeepContext | None = None) -> list[torch.Tensor]:
    scheduler, told = Sequential(run), tiny.prompt()
    made = []
    for seed in range(count):
        if context is not None:
            context.before_chunk(run, told)
        made += [chunk.latent for chunk in scheduler.enter(tiny.chunk(run, seed, told=told))]
        if context is not None:
            context.after_chunk(run, told)
    return made


@torch.inference_mode()
def cleanly(run: Rollout, latents: list[torch.Tensor], told: object, *, start: int = 0) -> Rollout:
    """The latents as a stream of their own, a clean pass each."""
    for number, latent in enumerate(latents, start=start):
        run.admit(0, 1, number)
        run.denoise(latent, CLEAN, (told,))
    return run


@torch.inference_mode()
def test_a_prompt_switch_fills_the_cache_as_the_new_prompt_would_have() -> None:
    run, new = tiny.rollout(RingWithSinks(window=4), history=4), tiny.prompt(1)
    made = stream(run, 9)
    RecacheOnSwitch(frames=4).on_prompt_switch(run, new)
    expected = cleanly(tiny.rollout(RingWithSinks(window=4)), made[5:], new, start=5)
    assert torch.allclose(run.cache.keys, expected.cache.keys, atol=1e-6)
    assert torch.allclose(run.cache.values, expected.cache.values, atol=1e-6)
    old = cleanly(tiny.rollout(RingWithSinks(window=4)), made[5:], tiny.prompt(), start=5)
    assert not torch.allclose(run.cache.values[-1], old.cache.values[-1], atol=1e-4)


@torch.inference_mode()
def test_a_prompt_switch_leaves_the_sinks_and_the_stream_goes_on() -> None:
    run, new = tiny.rollout(RingWithSinks(window=5, sinks=2), history=5), tiny.prompt(1)
    stream(run, 9)
    sinks = run.cache.keys[:, :, :2].clone()
    RecacheOnSwitch(frames=5).on_prompt_switch(run, new)
    assert torch.equal(run.cache.keys[:, :, :2], sinks)
    assert run.cache.written[0, 0].tolist() == [0.0, 1.0, 6.0, 7.0, 8.0]
    Sequential(run).enter(tiny.chunk(run, 9, told=new))
    assert run.cache.written[0, 0].tolist() == [0.0, 1.0, 9.0, 7.0, 8.0]


@torch.inference_mode()
def test_a_switch_before_the_window_is_full_recaches_what_there_is() -> None:
    run, new = tiny.rollout(RingWithSinks(window=6), history=6), tiny.prompt(1)
    made = stream(run, 2)
    RecacheOnSwitch(frames=6).on_prompt_switch(run, new)
    expected = cleanly(tiny.rollout(RingWithSinks(window=6)), made, new)
    assert torch.allclose(run.cache.keys, expected.cache.keys, atol=1e-6)


@torch.inference_mode()
def test_every_row_of_a_stream_batch_is_recached() -> None:
    run, new = tiny.rollout(RingWithSinks(window=3), rows=2, history=3), tiny.prompt(1)
    scheduler, told = StreamBatch(run), tiny.prompt()
    for seed in range(6):
        scheduler.enter(tiny.chunk(run, seed, told=told))
    scheduler.flush()
    RecacheOnSwitch(frames=3).on_prompt_switch(run, new)
    assert torch.equal(run.cache.keys[:, 0], run.cache.keys[:, 1]) and torch.isfinite(run.cache.written).all()
    done = scheduler.enter(tiny.chunk(run, 7, told=new))
    assert torch.isfinite(done[0].latent).all()


@torch.inference_mode()
def test_the_context_of_the_last_frames_is_computed_anew_for_every_chunk() -> None:
    run, told = tiny.rollout(RingWithSinks(window=4), history=5), tiny.prompt()  # others may want more of the past
    context = RecomputeLast(frames=3, first=lambda latent: 0.5 * latent)
    made = stream(run, 7, context=context)
    context.before_chunk(run, told)
    expected = tiny.rollout(RingWithSinks(window=4))
    expected.admit(0, 3, 4)
    expected.denoise(torch.cat([0.5 * made[4], made[5], made[6]], 1), CLEAN, (told,))
    assert torch.allclose(run.cache.keys, expected.cache.keys, atol=1e-6)
    assert run.cache.written[0, 0, :3].tolist() == [4.0, 5.0, 6.0]


@torch.inference_mode()
def test_the_sinks_become_the_first_generated_frames_once() -> None:
    run, told = tiny.rollout(RingWithSinks(window=4, sinks=2), history=4), tiny.prompt()
    made = stream(run, 6, context=RollingSinkFrame(frames=4))
    expected = tiny.rollout(RingWithSinks(window=2))
    expected.admit(0, 2, 0)
    expected.denoise(torch.cat(made[:2], 1), CLEAN, (told,))
    assert torch.allclose(run.cache.keys[:, :, :2], expected.cache.keys, atol=1e-6)
    plain = tiny.rollout(RingWithSinks(window=4, sinks=2))
    stream(plain, 6)
    assert not torch.allclose(run.cache.keys[:, :, :2], plain.cache.keys[:, :, :2], atol=1e-4)


@torch.inference_mode()
def test_a_new_rollout_goes_on_from_the_clean_frames_of_another() -> None:
    run, told = tiny.rollout(RingWithSinks(window=4), history=6), tiny.prompt()
    made = stream(run, 9)
    new = tiny.rollout(RingWithSinks(window=4), rows=2, history=4)
    replay(new, run.history, told, block=1)
    expected = cleanly(tiny.rollout(RingWithSinks(window=4)), made[5:], told)
    assert torch.allclose(new.cache.keys[:, :1], expected.cache.keys, atol=1e-6)
    assert torch.equal(new.cache.keys[:, 0], new.cache.keys[:, 1])
    assert new.positions.advance(1) == 4 and new.seen == 4
