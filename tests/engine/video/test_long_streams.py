"""Streams that run for hours: the same picture at chunk 0 and at chunk 500, and what published systems get wrong then."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import pytest
import torch
from torch import Tensor

from engine.video.cache_policies import AdaptiveSinks, CachePolicy, RingWithSinks
from engine.video.positions import AbsolutePositions, CacheRelativePositions, PositionPolicy, ResetPositions
from engine.video.rollout import Rollout
from engine.video.schedulers import Sequential, StreamBatch
from tests.engine.video import tiny


@torch.inference_mode()
def feed(run: Rollout, seeds: Iterable[int], *, steps: tuple[float, ...] = (700.0,)) -> list[Tensor]:
    """The outputs of chunks of noise of these seeds."""
    scheduler, told = Sequential(run), tiny.prompt()
    return [scheduler.enter(tiny.chunk(run, seed, steps=tiny.levels(*steps), told=told))[0].latent for seed in seeds]


def test_cache_relative_output_is_the_same_for_a_stream_started_now_and_one_continued_at_chunk_500() -> None:
    window, layers = 4, 2
    depth = layers * (window - 1)  # a chunk depends on as many before it, so older ones are forgotten entirely
    fresh, continued = (tiny.rollout(RingWithSinks(window=window), CacheRelativePositions()) for _ in range(2))
    feed(continued, range(1000, 1500))
    now, later = feed(fresh, range(40)), feed(continued, range(40))
    assert not torch.allclose(now[0], later[0], atol=1e-3)
    for number in range(window + depth, 40):
        assert torch.equal(now[number], later[number])


@pytest.mark.parametrize("policy", [lambda: RingWithSinks(window=5, sinks=2), lambda: AdaptiveSinks(window=5, sinks=2)])
def test_cache_relative_output_does_not_depend_on_the_count(policy: type[CachePolicy]) -> None:
    first = feed(tiny.rollout(policy(), CacheRelativePositions()), range(20))
    moved = feed(tiny.rollout(policy(), CacheRelativePositions(start=500)), range(20))
    assert all(torch.equal(a, b) for a, b in zip(first, moved, strict=True))


@pytest.mark.parametrize("start", [1020, 1_000_000])
def test_absolute_positions_have_no_end(start: int) -> None:
    """A table of 1024 rows ends after four minutes; here only distances matter, at any count."""
    first = feed(tiny.rollout(RingWithSinks(window=4), AbsolutePositions()), range(20))
    late = feed(tiny.rollout(RingWithSinks(window=4), AbsolutePositions(start=start)), range(20))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(first, late, strict=True))


def test_after_a_jump_back_cached_keys_stand_where_their_frames_do() -> None:
    """Without sinks the jump is unseen: every distance stays. With stale keys the window would hold frames of the future."""
    window = 4
    jumping = feed(tiny.rollout(RingWithSinks(window=window), ResetPositions(limit=10, restart=window - 1)), range(30))
    steady = feed(tiny.rollout(RingWithSinks(window=window), AbsolutePositions()), range(30))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(jumping, steady, strict=True))


def test_stale_keys_after_a_jump_would_be_seen() -> None:
    class Stale(ResetPositions):
        def renumbered(self, written: Tensor, *, sinks: int, shift: int) -> Tensor:
            return written

    jumping = feed(tiny.rollout(RingWithSinks(window=4), Stale(limit=10, restart=3)), range(12))
    steady = feed(tiny.rollout(RingWithSinks(window=4), AbsolutePositions()), range(12))
    assert torch.allclose(jumping[9], steady[9], atol=1e-5) and not torch.allclose(jumping[10], steady[10], atol=1e-3)


def test_nothing_stands_in_the_future_with_sinks_either() -> None:
    run = tiny.rollout(RingWithSinks(window=6, sinks=3), ResetPositions(limit=12, restart=5))
    scheduler, told = Sequential(run), tiny.prompt()
    with torch.inference_mode():
        for seed in range(40):
            chunk = tiny.chunk(run, seed, told=told)
            scheduler.enter(chunk)
            written = run.cache.written[0, 0]
            if seed >= 5:
                assert written[:3].tolist() == [0.0, 1.0, 2.0]
                assert sorted(written[3:].tolist()) == [chunk.position - 2, chunk.position - 1, chunk.position]


def test_no_sink_is_renewed_while_the_window_fills() -> None:
    """An empty slot resembles nothing (cosine 0 below every threshold): compared at a cold start it would be queued for renewal."""
    run = tiny.rollout(AdaptiveSinks(window=6, sinks=3, threshold=0.2))
    feed(run, [3] * 6)  # the same picture again and again: only what is empty is unlike it
    assert run.cache.written.tolist() == [[[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]]] * 2
    feed(run, [3] * 3)
    assert run.cache.written.tolist() == [[[0.0, 1.0, 2.0, 6.0, 7.0, 8.0]]] * 2
    unlike = tiny.rollout(AdaptiveSinks(window=6, sinks=3, threshold=0.999))
    feed(unlike, range(6))
    assert unlike.cache.written.tolist() == [[[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]]] * 2


@pytest.mark.parametrize("stopped_after", [3, 7, 8, 11])
def test_a_session_that_is_reset_is_a_new_session(stopped_after: int) -> None:
    """Wherever the one before stopped: its ring, its choices and its places are gone."""
    used = tiny.rollout(AdaptiveSinks(window=5, sinks=2, threshold=0.6), rows=1)
    feed(used, range(50, 50 + stopped_after))
    used.reset()
    new = tiny.rollout(AdaptiveSinks(window=5, sinks=2, threshold=0.6), rows=1)
    assert all(torch.equal(a, b) for a, b in zip(feed(used, range(12)), feed(new, range(12)), strict=True))
    assert torch.equal(used.cache.written, new.cache.written)


@pytest.mark.parametrize("positions", [AbsolutePositions(), CacheRelativePositions(), ResetPositions(limit=20, restart=4)])
def test_a_stream_batch_runs_600_chunks_in_the_memory_of_the_first(positions: PositionPolicy) -> None:
    run = tiny.rollout(RingWithSinks(window=4, sinks=1), copy.deepcopy(positions), layers=1, rows=2)
    scheduler, told, steps = StreamBatch(run), tiny.prompt(net=tiny.network(1)), tiny.levels()
    places = (run.cache.keys.data_ptr(), run.cache.values.data_ptr(), run.cache.written.data_ptr())
    with torch.inference_mode():
        for seed in range(600):
            done = scheduler.enter(tiny.chunk(run, seed % 5, steps=steps, told=told))
            assert all(torch.isfinite(chunk.latent).all() for chunk in done)
            assert scheduler.in_flight <= 1
    assert places == (run.cache.keys.data_ptr(), run.cache.values.data_ptr(), run.cache.written.data_ptr())
