"""The frame ring: what one writer and one reader may see of each other, alone, across processes, and after a death."""

from __future__ import annotations

import multiprocessing
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine import segments
from engine.frames import Frame, PixelFormat
from engine.shared_frames import FrameRing, FrameTooLarge, RingReader, RingWriter

SPAWN = multiprocessing.get_context("spawn")
FRAME_BYTES = 240 * 240 * 4


@pytest.fixture
def ring() -> Iterator[FrameRing]:
    made = FrameRing(FRAME_BYTES, purpose="test")
    yield made
    made.remove()


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import ring_peers

    return ring_peers


def picture(shade: int, width: int = 8, height: int = 4, format: PixelFormat = PixelFormat.BGRA) -> np.ndarray:
    return np.full((height, width, format.channels), shade, np.uint8)


def put(writer: RingWriter, index: int) -> None:
    writer.put(PixelFormat.BGRA, picture(index % 251), 0.5 + index, index)


def test_a_frame_arrives_as_it_was_put(ring: FrameRing) -> None:
    writer, reader = RingWriter(ring.writer_handle), RingReader(ring.reader_handle)
    pixels = np.random.default_rng(1).integers(0, 256, (6, 10, 2), np.uint8)
    writer.put(PixelFormat.UYVY, pixels, 123.456789, 2**40)
    frame = reader.newest()
    assert frame is not None
    assert (frame.format, frame.captured_at, frame.index) == (PixelFormat.UYVY, 123.456789, 2**40)
    assert np.array_equal(frame.pixels, pixels)
    assert frame.pixels.flags.c_contiguous
    assert not frame.pixels.flags.writeable
    assert reader.newest() is None


def test_pixels_are_not_copied_on_the_way_out_and_may_be_written_in_place(ring: FrameRing) -> None:
    writer, reader = RingWriter(ring.writer_handle), RingReader(ring.reader_handle)
    view = writer.begin(PixelFormat.BGRX, 4, 3)
    assert reader.newest() is None
    view[:] = 7
    writer.commit(1.0, 5)
    frame = reader.newest()
    assert frame is not None
    assert np.shares_memory(frame.pixels, reader.memory)
    assert (frame.pixels == 7).all()


def test_rows_that_are_not_contiguous_can_be_put(ring: FrameRing) -> None:
    writer, reader = RingWriter(ring.writer_handle), RingReader(ring.reader_handle)
    pixels = np.arange(4 * 6 * 4, dtype=np.uint8).reshape(4, 6, 4)[::-1, ::2]
    writer.put(PixelFormat.BGRA, pixels, 0.0, 0)
    frame = reader.newest()
    assert frame is not None and np.array_equal(frame.pixels, pixels)


def test_a_frame_larger_than_a_slot_is_refused_by_name_and_the_ring_goes_on(ring: FrameRing) -> None:
    writer, reader = RingWriter(ring.writer_handle), RingReader(ring.reader_handle)
    with pytest.raises(FrameTooLarge, match="1000x1000 BGRA takes 3.8 MiB"):
        writer.put(PixelFormat.BGRA, np.zeros((1000, 1000, 4), np.uint8), 0.0, 0)
    put(writer, 1)
    frame = reader.newest()
    assert frame is not None and frame.index == 1


def test_the_largest_frame_fits_and_touches_no_neighbour(ring: FrameRing) -> None:
    writer, reader = RingWriter(ring.writer_handle), RingReader(ring.reader_handle)
    held = None
    for index in range(1, 9):
        before = held.pixels.copy() if held is not None else None
        writer.put(PixelFormat.BGRA, picture(index, 240, 240), 0.0, index)
        assert held is None or np.array_equal(held.pixels, before)
        if index % 2:
            held = reader.newest()
            assert held is not None and (held.pixels == index).all()


def test_counts_of_frames_put_taken_and_dropped(ring: FrameRing) -> None:
    writer, reader = RingWriter(ring.writer_handle), RingReader(ring.reader_handle)
    for index in range(5):
        put(writer, index)
    assert (ring.counts().put, ring.counts().taken, ring.counts().dropped) == (5, 0, 0)
    reader.newest()
    put(writer, 5)
    reader.newest()
    reader.newest()
    assert (ring.counts().put, ring.counts().taken, ring.counts().dropped) == (6, 2, 4)


def test_wait_ends_when_a_frame_is_put_from_elsewhere(ring: FrameRing) -> None:
    writer, reader = RingWriter(ring.writer_handle), RingReader(ring.reader_handle)
    assert reader.wait(0.0) is False
    for index in range(50):
        putting = threading.Timer(0.001, put, (writer, index))
        putting.start()
        assert reader.wait(30.0) is True
        frame = reader.newest()
        assert frame is not None and frame.index == index
        assert reader.wait(0.0) is False
        putting.join()


def test_a_bell_nobody_hears_never_blocks_the_writer(ring: FrameRing) -> None:
    writer = RingWriter(ring.writer_handle)
    for index in range(100_000):
        writer.begin(PixelFormat.BGRA, 1, 1)
        writer.commit(0.0, index)
    for _ in range(100):  # engines that came and went
        RingWriter(ring.writer_handle).close()
    reader = RingReader(ring.reader_handle)
    assert reader.wait(0.0) and reader.newest() is not None
    assert reader.wait(0.01) is False


def test_a_reader_killed_while_the_bell_rang_leaves_no_deaf_successor(ring: FrameRing) -> None:
    writer, first = RingWriter(ring.writer_handle), RingReader(ring.reader_handle)
    put(writer, 0)
    while ring.reader_handle.doorbell.poll(0):
        ring.reader_handle.doorbell.recv_bytes()  # the first reader took what was rung and died before it noted so
    first.close()
    second = RingReader(ring.reader_handle)
    frame = second.newest()
    assert frame is not None and frame.index == 0  # a still source would never show it again
    put(writer, 1)
    assert ring.reader_handle.doorbell.poll(0), "the bell was not rung"
    assert second.wait(30.0)
    assert (ring.counts().put, ring.counts().taken, ring.counts().dropped) == (2, 1, 0)


def test_no_frame_is_torn_or_goes_back_under_a_hammering_writer(ring: FrameRing, peers: object) -> None:
    reader = RingReader(ring.reader_handle)
    count = 20_000
    process = SPAWN.Process(target=peers.hammer, args=(ring.writer_handle, 0, count, 1), daemon=True)  # type: ignore[attr-defined]
    process.start()
    last, seen, until = -1, 0, time.monotonic() + 60
    while last < count - 1 and time.monotonic() < until:
        reader.wait(1.0)
        frame = reader.newest()
        if frame is None:
            continue
        for _ in range(3):  # at once, and again while the writer goes on
            assert (frame.pixels == frame.index % 251).all(), f"frame {frame.index} is torn"
        assert frame.index > last
        last, seen = frame.index, seen + 1
    process.join(10)
    assert last == count - 1
    counts = ring.counts()
    assert (counts.put, counts.taken, counts.dropped) == (count, seen, count - seen)


def test_a_writer_killed_in_the_middle_of_a_frame_is_succeeded(ring: FrameRing, peers: object) -> None:
    reader = RingReader(ring.reader_handle)
    put(RingWriter(ring.writer_handle), 0)
    frame = reader.newest()
    assert frame is not None
    for round_ in range(1, 6):
        process = SPAWN.Process(target=peers.die_while_writing, args=(ring.writer_handle,))  # type: ignore[attr-defined]
        process.start()
        process.join(60)
        assert process.exitcode == 9
        assert reader.newest() is None
        assert (frame.pixels == frame.index).all()
        put(RingWriter(ring.writer_handle), round_)
        frame = reader.newest()
        assert frame is not None and frame.index == round_ and (frame.pixels == round_).all()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="shared memory is no folder here")
def test_too_little_shared_memory_is_told_before_anything_is_made() -> None:
    before = segments.present()
    with pytest.raises(segments.NoSharedMemory, match="--shm-size"):
        FrameRing(2**50, purpose="test")
    assert segments.present() == before


class RingModel(RuleBasedStateMachine):
    """Any order of put, half put, take, and death of either side: the newest complete frame wins, the held one is not touched."""

    def __init__(self) -> None:
        super().__init__()
        self.ring = FrameRing(64 * 64 * 4, purpose="test")
        self.writer, self.reader = RingWriter(self.ring.writer_handle), RingReader(self.ring.reader_handle)
        self.put_last, self.seen, self.next_index = -1, -1, 0
        self.held: Frame | None = None

    @rule(side=st.integers(1, 64))
    def put(self, side: int) -> None:
        self.writer.put(PixelFormat.BGRA, picture(self.next_index % 251, side, side), 0.0, self.next_index)
        self.put_last, self.next_index = self.next_index, self.next_index + 1

    @rule(side=st.integers(1, 64))
    def begin_and_write_without_commit(self, side: int) -> None:
        self.writer.begin(PixelFormat.BGRA, side, side)[:] = 255

    @rule()
    def writer_dies(self) -> None:
        self.writer.close()
        self.writer = RingWriter(self.ring.writer_handle)

    @rule()
    def take(self) -> None:
        frame = self.reader.newest()
        if self.put_last == self.seen:
            assert frame is None
        else:
            assert frame is not None and frame.index == self.put_last
            self.held, self.seen = frame, self.put_last

    @precondition(lambda self: self.put_last >= 0)
    @rule()
    def reader_dies(self) -> None:
        self.reader.close()
        self.reader, self.held = RingReader(self.ring.reader_handle), None
        self.seen = self.put_last - 1

    @rule()
    def listen(self) -> None:
        assert self.reader.wait(0.0) is (self.put_last != self.seen)

    @invariant()
    def the_held_frame_is_whole(self) -> None:
        if self.held is not None:
            assert (self.held.pixels == self.held.index % 251).all()

    def teardown(self) -> None:
        self.held = None
        self.writer.close()
        self.reader.close()
        self.ring.remove()


RingModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRingModel = RingModel.TestCase


@pytest.mark.skipif(sys.platform == "win32", reason="Windows frees segments by itself")
def test_a_removed_ring_leaves_nothing(ring: FrameRing) -> None:
    other = FrameRing(1000, purpose="test")
    assert other.name in segments.present()
    reader = RingReader(other.reader_handle)
    put(RingWriter(other.writer_handle), 3)
    frame = reader.newest()
    reader.close()
    other.remove()
    assert other.name not in segments.present()
    assert frame is not None and (frame.pixels == 3).all()  # who still looks at a frame keeps it
