"""Whatever the policies: a chunk of a full window costs the same work and the same memory at the 600th as at the 20th.

Work is counted, not timed: the same operations on tensors of the same shapes are the same FLOPs.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import nullcontext
from types import FunctionType, ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from engine.models.video_policies import CACHES, POSITIONS, SCHEDULERS, VideoPolicies
from engine.pipelines.denoising import DenoisingHere
from engine.pipelines.video_parts import DenoisingKind, check
from engine.video.phased_batch import LocalLine, PhasedBatch
from tests.engine.video import tiny

CHUNKS, FULL, CYCLE = 600, 20, 10
"""Chunks of a stream; after how many its window is surely full; after how many positions that jump back do so again."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """So small a network gains nothing by more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Operations(TorchDispatchMode):
    """Every operation while this is on, in order, with the shapes of the tensors it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[str, tuple[tuple[int, ...], ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        shapes = tuple(tuple(leaf.shape) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
        self.done.append((str(func), shapes))
        return func(*args, **kwargs)


def held(root: object) -> tuple[int, int]:
    """What is held by an object and all it leads to: references, and bytes of tensors."""
    seen, references, storages, waiting = {id(root)}, 0, {}, [root]
    while waiting:
        found = waiting.pop()
        if isinstance(found, Tensor):
            storages[found.untyped_storage().data_ptr()] = found.untyped_storage().nbytes()
        into = (found.__closure__, found.__defaults__) if isinstance(found, FunctionType) else gc.get_referents(found)
        into = [other for other in into if not isinstance(other, (type, ModuleType))]
        references += len(into)
        for other in into:
            if id(other) not in seen:
                seen.add(id(other))
                waiting.append(other)
    return references, sum(storages.values())


def denoising_of(
    *, cache: str = "ring", scheduler: str = "clean_rerun", positions: str = "cache_relative", steps: tuple[float, ...] = (700.0,)
) -> DenoisingHere:
    policies = VideoPolicies(
        cache=cache, scheduler=scheduler, positions=positions, frames=1, window=7, sinks=2, sink_threshold=0.5, ema=0.9, context=3,
        reset_at=5 + CYCLE, restart_at=5, timesteps=steps,
    )  # fmt: skip
    check(policies)
    kind = DenoisingKind(scheduler, steps=len(steps), frames=1, size=(tiny.SIDE, tiny.SIDE))
    return DenoisingHere(tiny.network(1), policies, kind, first=lambda latent: 0.5 * latent)


@torch.inference_mode()
def assert_constant(denoising: DenoisingHere, steps: tuple[float, ...] = (700.0,), *, switch_every: int = 0) -> None:
    """600 chunks: every chunk of the last cycle costs what its like in the first cycle of a full window did.

    switch_every: chunks after which the prompt is another one and the context is computed anew; 0 is never.
    """
    run, levels = denoising.rollout, tiny.levels(*steps)
    prompts = [tiny.prompt(seed, tiny.network(1)) for seed in (0, 1)]
    work, memory = [], []
    for number in range(CHUNKS):
        with Operations() if FULL <= number < FULL + CYCLE or number >= CHUNKS - CYCLE else nullcontext() as operations:
            told = prompts[number // switch_every % 2 if switch_every else 0]
            if switch_every and number and number % switch_every == 0:
                denoising.switch_prompt(told)
            denoising.context.before_chunk(run, told)
            denoising.scheduler.enter(tiny.chunk(run, number % 7, steps=levels, told=told))
            denoising.context.after_chunk(run, told)
        if operations is not None:
            work.append(tuple(operations.done))
        if number in (FULL + CYCLE - 1, CHUNKS - 1):
            memory.append(held(denoising))
    assert all(work)
    assert [len(operations) for operations in work[:CYCLE]] == [len(operations) for operations in work[CYCLE:]]
    assert work[:CYCLE] == work[CYCLE:]
    assert memory[0] == memory[1]


@pytest.mark.parametrize("cache", CACHES)
def test_the_600th_chunk_costs_the_work_and_memory_of_the_20th(cache: str) -> None:
    assert_constant(denoising_of(cache=cache))


@pytest.mark.parametrize("cache", ["ring", "rolling_sink"])
def test_the_600th_chunk_costs_no_more_with_prompts_that_switch(cache: str) -> None:
    """Recached on every switch: the chunks with a switch cost what the first of them in a full window did, so do those between."""
    assert_constant(denoising_of(cache=cache), switch_every=CYCLE // 2)


@pytest.mark.parametrize("positions", [name for name in POSITIONS if name != "cache_relative"])
def test_the_600th_chunk_costs_no_more_with_other_positions(positions: str) -> None:
    assert_constant(denoising_of(positions=positions))


@pytest.mark.parametrize("scheduler", [name for name in SCHEDULERS if name != "clean_rerun"])
def test_the_600th_chunk_costs_no_more_with_other_schedulers(scheduler: str) -> None:
    steps = (700.0, 500.0)
    assert_constant(denoising_of(scheduler=scheduler, steps=steps), steps)


def test_the_600th_chunk_costs_no_more_in_phases() -> None:
    steps = (700.0, 500.0)
    denoising = denoising_of(scheduler="stream_batch", steps=steps)
    denoising.scheduler = PhasedBatch(denoising.rollout, LocalLine(denoising.rollout), phases=2)
    assert_constant(denoising, steps)
