"""Stream batch in phases against stream batch itself and against every chunk alone, on a network that depends on all it has seen."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from engine.video.cache_policies import CachePolicy
from engine.video.kv_cache import CacheAccess, CacheShape, KVCache
from engine.video.phased_batch import LocalLine, PhasedBatch
from engine.video.positions import CacheRelativePositions, Rope
from engine.video.rollout import Rollout
from engine.video.schedule import FlowGrid
from engine.video.schedulers import Chunk, StreamBatch

CHANNELS, HEIGHT, WIDTH = 4, 2, 2


class OneLayer:
    """One attention layer without weights over the cache: velocity depends on the timestep, the chunk and the frames before."""

    def __call__(self, x: torch.Tensor, timesteps: torch.Tensor, prompts: Sequence[object], access: CacheAccess) -> torch.Tensor:
        tokens = x.flatten(3).transpose(2, 3).flatten(1, 2)[:, :, None]  # [B, F T, 1, C]
        padded = torch.cat((tokens, tokens, tokens), dim=-1) * (1 + timesteps.view(-1, 1, 1, 1) / 1000)
        query, keys, values, mask = access.layer(0, padded, padded, padded)
        scores = torch.einsum("bqhd,bkhd->bhqk", query, keys) / 3.0
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        attended = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), values)[..., 0, :CHANNELS]
        return (attended.unflatten(1, (x.shape[1], HEIGHT * WIDTH)).transpose(2, 3).reshape(x.shape) - 0.5 * x).float()


def make_rollout(rows: int) -> Rollout:
    shape = CacheShape(layers=1, slots=4, tokens=HEIGHT * WIDTH, heads=1, head_dim=3 * CHANNELS)
    device = torch.device("cpu")
    return Rollout(
        OneLayer(),
        lambda rows: KVCache(shape, rows=rows, device=device, dtype=torch.float32, per_layer=False),
        policy=CachePolicy(window=4, sinks=1),
        positions=CacheRelativePositions(),
        rope=Rope(3 * CHANNELS, height=HEIGHT, width=WIDTH, device=device),
        rows=rows,
    )


def make_chunks(count: int, steps: Sequence[float], *, first_frames: int = 2) -> list[Chunk]:
    generator, levels = torch.Generator().manual_seed(1), FlowGrid(shift=5.0).levels(steps, torch.device("cpu"))
    chunks, position = [], 0
    for tag in range(count):
        frames = first_frames if tag == 0 else 1
        latent = torch.randn(1, frames, CHANNELS, HEIGHT, WIDTH, generator=generator)
        noise = torch.randn(max(len(steps) - 1, 0), frames, CHANNELS, HEIGHT, WIDTH, generator=generator)
        chunks.append(Chunk(latent=latent, levels=levels, noise=noise, position=position, prompt=None, tag=tag))
        position += frames
    return chunks


def phased(rows: int, phases: int) -> PhasedBatch:
    rollout = make_rollout(rows)
    return PhasedBatch(rollout, LocalLine(rollout), phases=phases)


def run(scheduler: StreamBatch | PhasedBatch, chunks: list[Chunk], *, flush_each: bool = False) -> list[Chunk]:
    finished: list[Chunk] = []
    for chunk in chunks:
        finished += scheduler.enter(chunk)
        finished += scheduler.flush() if flush_each else []
    return finished + scheduler.flush()


STEPS = (1000.0, 750.0, 400.0)


@pytest.mark.parametrize("phases", [1, 2, 3, 5])
@pytest.mark.parametrize("steps", [STEPS, STEPS[:2], STEPS[:1]])
def test_any_number_of_phases_gives_what_every_chunk_alone_gives(phases: int, steps: tuple[float, ...]) -> None:
    alone = run(StreamBatch(make_rollout(len(steps))), make_chunks(14, steps), flush_each=True)
    together = run(phased(len(steps), phases), make_chunks(14, steps))
    assert [chunk.tag for chunk in together] == list(range(14))
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(other.latent, one.latent, atol=1e-5, rtol=0)


def test_one_phase_is_stream_batch_call_for_call_bit_for_bit() -> None:
    batch, single = StreamBatch(make_rollout(3)), phased(3, 1)
    for one, other in zip(make_chunks(9, STEPS), make_chunks(9, STEPS), strict=True):
        expected, given = batch.enter(one), single.enter(other)
        assert [chunk.tag for chunk in given] == [chunk.tag for chunk in expected]
        assert all(torch.equal(a.latent, b.latent) for a, b in zip(expected, given, strict=True))
        assert batch.in_flight == single.in_flight


@pytest.mark.parametrize("phases", [1, 2, 3])
def test_a_chunk_comes_out_as_many_calls_later_as_steps_times_phases_say(phases: int) -> None:
    scheduler, out = phased(3, phases), {}
    for call, chunk in enumerate(make_chunks(20, STEPS)):
        for finished in scheduler.enter(chunk):
            out[finished.tag] = call
    assert out[0] == 0, "the first runs alone"
    assert all(call - tag == 2 * phases + phases - 1 for tag, call in out.items() if tag > 0)
    assert scheduler.in_flight == 3 * phases - 1


def test_reset_forgets_and_other_steps_finish_what_is_in_flight_first() -> None:
    scheduler = phased(3, 2)
    chunks = make_chunks(8, STEPS)
    for chunk in chunks[:4]:
        scheduler.enter(chunk)
    scheduler.reset()
    assert scheduler.in_flight == 0 and scheduler.flush() == []
    scheduler = phased(3, 2)
    for chunk in make_chunks(4, STEPS):
        scheduler.enter(chunk)
    fewer = make_chunks(5, STEPS[:2])[4]
    assert [chunk.tag for chunk in scheduler.enter(fewer)] == [1, 2, 3, 4]
    with pytest.raises(ValueError, match="rows"):
        scheduler.enter(make_chunks(1, (1000.0, 800.0, 600.0, 400.0))[0])
    with pytest.raises(ValueError, match="phase"):
        phased(3, 0)
