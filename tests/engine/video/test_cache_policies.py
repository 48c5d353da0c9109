"""Where frames go in the cache, what is kept of those that leave, and that nothing grows."""

from __future__ import annotations

import pytest
import torch

from engine.video.cache_memory import DeepSinks, EmaSinks, TwoMemories, most_attended
from engine.video.cache_policies import AdaptiveSinks, CachePolicy, RingWithSinks
from engine.video.kv_cache import CacheShape, CallKey, KVCache
from engine.video.positions import AbsolutePositions
from engine.video.schedulers import Sequential
from tests.engine.video import tiny

CPU = torch.device("cpu")
POLICIES = {
    "ring": lambda: RingWithSinks(window=4),
    "ring with sinks": lambda: RingWithSinks(window=5, sinks=2),
    "adaptive sinks": lambda: AdaptiveSinks(window=5, sinks=2, threshold=0.5),
    "average sinks": lambda: EmaSinks(window=5, sinks=2, decay=0.9),
    "two memories": lambda: TwoMemories(window=4, sinks=1),
    "deep sinks": lambda: DeepSinks(window=4, sinks=2, middle=2),
}


def cache_of(policy: CachePolicy, *, layers: int = 1, tokens: int = 1, heads: int = 1, head_dim: int = 2) -> KVCache:
    shape = CacheShape(layers=layers, slots=policy.slots, tokens=tokens, heads=heads, head_dim=head_dim)
    made = KVCache(shape, rows=1, device=CPU, dtype=torch.float32, per_layer=policy.per_layer, queries=policy.wants_queries)
    policy.bind(made)
    return made


def put(policy: CachePolicy, cache: KVCache, value: float, number: int) -> None:
    """One frame whose keys and values are all `value`, as a rollout would bring it in."""
    placement = policy.place(0, 1)
    policy.evict(cache, 0, placement)
    slot = placement.slots[0]
    cache.keys[:, 0, slot] = value
    cache.values[:, 0, slot] = -value
    cache.written[:, 0, slot] = number


def test_the_ring_turns_behind_the_sinks() -> None:
    policy = RingWithSinks(window=6, sinks=3)
    assert [policy.place(0, 1).slots[0] for _ in range(12)] == [0, 1, 2, 3, 4, 5, 3, 4, 5, 3, 4, 5]
    assert policy.place(1, 5).slots == (0, 1, 2, 3, 4)
    turned = policy.place(1, 3)
    assert turned.slots == (5, 3, 4) and turned.evicted == (3, 4)


def test_a_chunk_that_does_not_fit_is_refused() -> None:
    policy = RingWithSinks(window=5, sinks=3)
    policy.place(0, 5)
    with pytest.raises(ValueError, match="does not fit a window of 5"):
        policy.place(0, 3)
    with pytest.raises(ValueError, match="no room"):
        RingWithSinks(window=3, sinks=3)


def test_average_sinks_are_the_closed_form() -> None:
    policy = EmaSinks(window=3, sinks=1, decay=0.75)
    cache = cache_of(policy)
    for number in range(8):
        put(policy, cache, float(number), number)
    # Frames 1..5 have left: S = a^5 * 0 + sum (1 - a) a^(5 - n) n.
    expected = sum(0.25 * 0.75 ** (5 - n) * n for n in range(1, 6))
    assert torch.allclose(cache.keys[0, 0, 0], torch.tensor(expected))
    assert torch.allclose(cache.values[0, 0, 0], torch.tensor(-expected))
    assert cache.written[0, 0].tolist() == [0.0, 7.0, 6.0]


def test_two_memories_are_the_closed_form() -> None:
    policy = TwoMemories(window=3, sinks=1, rates=(0.01, 0.1))
    cache = cache_of(policy)
    for number in range(3):
        put(policy, cache, float(number), number)
    assert policy.reach(0) == 3
    for number in range(3, 7):
        put(policy, cache, float(number), number)
    # Frames 1..4 have left; the first starts the memory.
    for memory, rate in enumerate((0.01, 0.1)):
        expected = 1.0
        for n in (2.0, 3.0, 4.0):
            expected = (1 - rate) * expected + rate * n
        assert torch.allclose(cache.keys[0, 0, 3 + memory], torch.tensor(expected))
    assert policy.reach(0) == 5
    order = cache.written[0, 0].argsort().tolist()
    assert order == [0, 3, 4, 1, 2] or order == [0, 3, 4, 2, 1]


def test_most_attended_keys_win() -> None:
    keys = torch.tensor([[0.0, 1.0], [5.0, 0.0], [0.1, 0.0], [4.0, 0.0]])[:, None]
    queries = torch.tensor([[1.0, 0.0], [2.0, 0.0]])[:, None]
    assert most_attended(queries, keys, 2).tolist() == [1, 3]


def test_compression_keeps_the_tokens_that_are_looked_at() -> None:
    policy = DeepSinks(window=2, sinks=1, middle=1)
    cache = cache_of(policy, tokens=2)
    assert cache.queries is not None
    cache.queries[:] = torch.tensor([1.0, 0.0])
    frames = [((9.0, 0.0), (9.0, 0.0)), ((3.0, 0.0), (-3.0, 0.0)), ((4.0, 1.0), (-5.0, 0.0)), ((0.0, 0.0), (0.0, 0.0))]
    for frame in frames:
        placement = policy.place(0, 1)
        policy.evict(cache, 0, placement)
        cache.keys[0, 0, placement.slots[0], :, 0] = torch.tensor(frame)
    # The middle holds the better token of frame 1 and the better one of frame 2, in their order.
    assert cache.keys[0, 0, 2, :, 0].tolist() == [[3.0, 0.0], [4.0, 1.0]]


def test_a_sink_unlike_the_picture_is_renewed_and_the_ring_waits() -> None:
    policy = AdaptiveSinks(window=4, sinks=2, threshold=0.2)
    cache = cache_of(policy)
    east, north = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    looks = [east, north, east, east, east, north, -north, east, east]
    chosen = []
    for look in looks:
        placement = policy.place(0, 1)
        policy.evict(cache, 0, placement)
        frame = look.view(1, 1, 1, 1, 2)
        key = CallKey((0, 1), 1, (0, policy.reach(0)), False, True)
        slots = policy.choose(0, key, policy.slot_tensor(cache, 0, placement)[0], frame, frame)
        again = CallKey((0, 1), 1, (0, policy.reach(0)), False, False)
        assert torch.equal(policy.choose(0, again, slots, -frame, -frame), slots)  # later steps stay where the first went
        cache.write(0, (0, 1), slots, frame, frame)
        chosen.append(int(slots))
    # Full after four. East: sink 1 (north) is at 0 < 0.2, renewed. Then sinks are both east: north renews sink 0, -north sink 0 again
    # (cos -1), east sink 0 again, and then the ring goes on at its first slot.
    assert chosen == [0, 1, 2, 3, 1, 0, 0, 0, 2]


@pytest.mark.parametrize("name", POLICIES)
def test_600_chunks_take_no_more_memory_than_the_first_and_stay_finite(name: str) -> None:
    run = tiny.rollout(POLICIES[name](), layers=1, history=3)
    scheduler = Sequential(run)
    tensors = [tensor for tensor in vars(run.cache).values() if isinstance(tensor, torch.Tensor)]
    owned = [t for t in vars(run.policy).values() if isinstance(t, torch.Tensor)]
    places = [t.data_ptr() for t in tensors + owned]
    sizes = set()
    one_step, told = tiny.levels(700.0), tiny.prompt(net=tiny.network(1))
    with torch.inference_mode():
        for number in range(600):
            finished = scheduler.enter(tiny.chunk(run, number % 7, steps=one_step, told=told))
            assert torch.isfinite(finished[0].latent).all()
            if number >= 20:
                sizes.add((run.policy.reach(0), len(run.history), len(run._placed), len(run._next), len(run._fresh)))
    assert len(sizes) == 1
    assert [t.data_ptr() for t in tensors + owned] == places
    now = [t for t in vars(run.cache).values() if isinstance(t, torch.Tensor)]
    assert [t.data_ptr() for t in now] == places[: len(now)]


@pytest.mark.parametrize("name", POLICIES)
def test_reset_makes_every_policy_start_afresh(name: str) -> None:
    run = tiny.rollout(POLICIES[name](), history=3)
    scheduler = Sequential(run)

    def outputs() -> list[torch.Tensor]:
        return [scheduler.enter(tiny.chunk(run, seed))[0].latent for seed in range(12)]

    first = outputs()
    scheduler.enter(tiny.chunk(run, 99))
    run.reset()
    assert all(torch.equal(a, b) for a, b in zip(first, outputs(), strict=True))


@pytest.mark.parametrize("name", ["average sinks", "two memories", "deep sinks"])
def test_mixing_frames_does_not_go_with_baked_positions(name: str) -> None:
    with pytest.raises(ValueError, match="cache-relative"):
        tiny.rollout(POLICIES[name](), AbsolutePositions())


