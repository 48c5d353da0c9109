"""Processes that draw pairs: what comes out is what an artist with their seed draws, their memory goes with them, their end is told."""

from collections.abc import Callable
from dataclasses import fields
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
import pytest
from embedded.drawing_room import SLOTS_EACH, DrawingRoom, Layout
from embedded.pairs import DrawnPairs, PairArtist

LAYOUT = Layout(count=3, side=64)


def equal(one: DrawnPairs, other: DrawnPairs) -> bool:
    return all(np.array_equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(DrawnPairs))


def gone(name: str) -> bool:
    """Whether no shared memory of that name is left."""
    try:
        memory = SharedMemory(name=name)
    except FileNotFoundError:
        return not Path("/dev/shm", name).exists()
    memory.close()
    return False


def test_a_layout_is_as_large_as_its_arrays_and_they_come_back_from_memory(make_artist: Callable[[], PairArtist]) -> None:
    pairs = make_artist().drawn(LAYOUT.count, np.random.default_rng(2))
    assert LAYOUT.size == sum(getattr(pairs, field.name).nbytes for field in fields(DrawnPairs))
    assert list(LAYOUT.shapes()) == [field.name for field in fields(DrawnPairs)]
    memory = SharedMemory(create=True, size=LAYOUT.size)
    try:
        views = LAYOUT.views(memory)
        for field in fields(DrawnPairs):
            mine, there = getattr(pairs, field.name), getattr(views, field.name)
            assert (there.shape, there.dtype) == (mine.shape, mine.dtype) and np.shares_memory(there, np.asarray(memory.buf))
            there[:] = mine  # all are written before the first is read: none may lie over another
        same = equal(LAYOUT.views(memory), pairs)
        del views, there
    finally:
        memory.close()
        memory.unlink()
    assert same


def test_without_processes_the_room_draws_what_its_artist_draws(make_artist: Callable[[], PairArtist]) -> None:
    artist, generator = make_artist(), np.random.default_rng([7, 0])
    with DrawingRoom(make_artist, layout=LAYOUT, processes=0, seed=7) as room:
        for wait in (True, False):
            found = room.next(wait=wait)
            assert found is not None and equal(found, artist.drawn(LAYOUT.count, generator))


def test_a_process_draws_what_an_artist_with_its_seed_draws_its_end_is_told_and_it_leaves_no_memory(
    make_artist: Callable[[], PairArtist],
) -> None:
    artist, generator = make_artist(), np.random.default_rng([7, 1])
    with DrawingRoom(make_artist, layout=LAYOUT, processes=1, seed=7) as room:
        names = [slot.name for slot in room._slots]
        assert len(names) == SLOTS_EACH and not any(gone(name) for name in names)
        found = [room.next(wait=True) for _ in range(2 * SLOTS_EACH + 1)]  # every place is used again
        room._workers[0].kill()
        room._workers[0].join(timeout=60)
        with pytest.raises(RuntimeError, match="drawing process"):
            for _ in range(SLOTS_EACH + 1):  # what was ready still comes
                found.append(room.next(wait=False))
    for pairs in found:
        assert pairs is not None and equal(pairs, artist.drawn(LAYOUT.count, generator))
    assert all(gone(name) for name in names)
    assert not any(worker.is_alive() for worker in room._workers)
