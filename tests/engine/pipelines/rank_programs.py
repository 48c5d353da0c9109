"""What the ranks of a group do in the tests: importable, as `spawn` needs it. Rank 0 runs in a process of its own too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from engine.gpu.ranks import Place, Ranks
from engine.models.video_codec import StreamVae
from engine.models.video_denoiser import VideoDenoiser
from engine.pipelines.codec_rank import CodecOnRank, serve_codec
from engine.pipelines.layer_ring import BlockStage, RingHead, RingRank, serve_ring
from engine.pipelines.rank_group import RankGroup
from engine.pipelines.rank_prompts import PromptedNetwork, RankPrompts
from engine.pipelines.step_ranks import StepRank, StepsOverRanks, serve_steps
from engine.video.cache_policies import AdaptiveSinks, CachePolicy
from engine.video.parallel import Split, split_evenly
from engine.video.phased_batch import PhasedBatch
from engine.video.positions import AbsolutePositions, CacheRelativePositions
from engine.video.rollout import Network, Prompt, Rollout
from engine.video.schedulers import Chunk, StepScheduler
from tests.engine.video import tiny

LAYERS, ROWS = 5, 3
LEVELS = (900.0, 700.0, 400.0)
CPU = torch.device("cpu")
SWITCH, MOVE, CHUNKS = 5, 8, 12
"""At which chunk the prompt changes and blocks move, and how many there are."""


def make_policy(kind: str) -> CachePolicy:
    """ring, or adaptive sinks that are renewed often."""
    return AdaptiveSinks(window=4, sinks=2, threshold=0.9) if kind == "adaptive" else CachePolicy(window=4, sinks=1)


def make_rollout(kind: str, network: Network, denoiser: Callable[[], VideoDenoiser]) -> Rollout:
    """The policies that every rank shares; the cache is of the denoiser's blocks at the time."""
    policy = make_policy(kind)
    return Rollout(
        network,
        lambda rows: denoiser().make_cache(tiny.SIDE, tiny.SIDE, policy=policy, rows=rows),
        policy=policy,
        positions=AbsolutePositions() if kind == "adaptive" else CacheRelativePositions(),
        rope=denoiser().rope(tiny.SIDE, tiny.SIDE),
        rows=ROWS,
    )


def clip() -> Tensor:
    """9 pictures."""
    return torch.rand(1, 9, 3, 16, 24, generator=torch.Generator().manual_seed(5)) * 2 - 1


def codec() -> StreamVae:
    """Random, the same every time."""
    from diffusers import AutoencoderKLWan

    torch.manual_seed(3)
    return StreamVae(AutoencoderKLWan(base_dim=4, num_res_blocks=1).eval())


def run_stream(scheduler: StepScheduler, rollout: Rollout, prompt: Callable[[int], Prompt], move: Callable[[], None]) -> list[Tensor]:
    """The clean latents of a stream with a first chunk of two frames, a change of prompt, a move of blocks, and a flush."""
    finished: list[Chunk] = []
    told = prompt(0)
    for number in range(CHUNKS):
        if number == SWITCH:
            told = prompt(1)
        if number == MOVE:
            move()
        steps = tiny.levels(*LEVELS)
        finished += scheduler.enter(tiny.chunk(rollout, number, frames=2 if number == 0 else 1, steps=steps, told=told, tag=number + 1))
    finished += scheduler.flush()
    assert [chunk.tag for chunk in finished] == list(range(1, CHUNKS + 1))
    return [chunk.latent for chunk in finished]


def ring_split(line: int) -> tuple[Split, Split]:
    """Before and after the move."""
    before = split_evenly(LAYERS, line)
    return before, (tuple((rank, rank + 1) for rank in range(line - 1)) + ((line - 1, LAYERS),)) if line > 1 else before


def make_ring(ranks: Ranks, kind: str, line: int, member: type[RingRank]) -> RingRank:
    stage = BlockStage(tiny.model(LAYERS), ring_split(line)[0], ranks.rank, (tiny.CHANNELS, tiny.SIDE, tiny.SIDE))
    return member(ranks, stage, lambda stage: make_rollout(kind, stage, lambda: stage.denoiser))


def make_steps(ranks: Ranks, member: type[StepRank], line: int) -> StepRank:
    denoiser = VideoDenoiser(tiny.model(LAYERS))
    prompts = RankPrompts(denoiser)
    rollout = make_rollout("ring", PromptedNetwork(denoiser, prompts), lambda: denoiser)
    return member(ranks, rollout, prompts, steps=len(LEVELS), line=line)


def other_rank(place: Place) -> None:
    """Rank 1 and up, in the order of `head`."""
    torch.set_num_threads(1)
    ranks = Ranks(place, CPU)
    for kind in ("ring", "adaptive"):
        serve_ring(make_ring(ranks, kind, ranks.count, RingRank))
    serve_steps(make_steps(ranks, StepRank, ranks.count))
    if ranks.rank == ranks.count - 1:
        serve_codec(ranks, codec())
    elif ranks.count > 2:
        serve_ring(make_ring(ranks, "ring", ranks.count - 1, RingRank))
    ranks.leave()


def head(folder: Path, count: int) -> None:
    """Rank 0: every way of sharing the work, the results into `folder`."""
    torch.set_num_threads(1)
    group = RankGroup(other_rank, count)
    ranks = Ranks(group.place, CPU)
    made: dict[str, list[Tensor]] = {}
    for kind in ("ring", "adaptive"):
        made[kind] = over_ring(ranks, kind, count)
    steps = make_steps(ranks, StepsOverRanks, count)
    assert isinstance(steps, StepsOverRanks)
    made["steps"] = run_stream(steps, steps.rollout, lambda seed: steps.prompt(tiny.prompt_tokens(seed)), lambda: None)
    steps.stop()
    made["codec"] = over_codec(CodecOnRank(ranks, count - 1))
    if count > 2:
        made["ring beside codec"] = over_ring(ranks, "ring", count - 1)
    ranks.leave()
    group.leave()
    torch.save(made, folder / "made.pt")


def over_ring(ranks: Ranks, kind: str, line: int) -> list[Tensor]:
    """Stream, reset, and the same stream again must be the same; then measured and shared out anew."""
    ring = make_ring(ranks, kind, line, RingHead)
    assert isinstance(ring, RingHead)
    batch = PhasedBatch(ring.rollout, ring, phases=line)
    before, after = ring_split(line)

    def run() -> list[Tensor]:
        return run_stream(batch, ring.rollout, lambda seed: ring.prompt(tiny.prompt_tokens(seed)), lambda: ring.share_out(after))

    latents = run()
    assert ring.stage.split == after
    batch.reset()
    ring.reset()
    ring.share_out(before)
    again = run()
    assert all(torch.equal(one, other) for one, other in zip(latents, again, strict=True))
    balanced = ring.balance()
    assert [part for first, last in balanced for part in range(first, last)] == list(range(LAYERS))
    ring.stop()
    return latents


def over_codec(remote: CodecOnRank) -> list[Tensor]:
    """A clip, twice, with a mistake of ours in between and work that overlaps."""
    pictures, results = clip(), []
    for _ in range(2):
        latents = [remote.encode(pictures[:, :5])]
        try:
            remote.encode(pictures[:, :3])
            raise AssertionError("three pictures are no chunk")
        except ValueError as error:
            assert "multiple of 4" in str(error)
        remote.begin_decode(latents[0])
        remote.begin_encode(pictures[:, 5:])
        latents.append(remote.encoded())
        remote.begin_decode(latents[1])
        results += [torch.cat(latents, 1), torch.cat([remote.decoded(), remote.decoded()], 1), remote.encode_alone(pictures[:, :1])]
        remote.begin_decode(latents[0])
        remote.reset()
    remote.stop()
    assert (remote.latent_channels, remote.factor, remote.pictures_per_latent) == (16, 8, 4)
    return results
