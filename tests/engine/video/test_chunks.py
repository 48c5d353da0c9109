"""Frames to chunks: 1 + 4k then 4k, one-frame start, bounded, the newest wins, every frame accounted for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.video.chunks import Chunk, FrameChunks


def put(chunks: FrameChunks[str], *indices: int) -> None:
    for index in indices:
        chunks.put(f"frame {index}", captured_at=100.0 + index / 16, index=index)


def indices(chunk: Chunk[str] | None) -> list[int]:
    assert chunk is not None
    return [frame.index for frame in chunk.frames]


def test_a_stream_starts_with_one_frame_and_goes_on_in_fours() -> None:
    chunks: FrameChunks[str] = FrameChunks()
    assert chunks.take(4) is None and chunks.is_first
    put(chunks, 0)
    first = chunks.take(4)
    assert first is not None and first.first and indices(first) == [0] and not chunks.is_first
    for index in range(1, 9):
        put(chunks, index)
        following = chunks.take(4)
        assert (following is None) == (index % 4 != 0)
        if following is not None:
            assert indices(following) == list(range(index - 3, index + 1))
            assert (following.first, following.dropped) == (False, 0)
    assert chunks.dropped == 0


def test_the_trained_first_block_of_five_and_larger_chunks() -> None:
    chunks: FrameChunks[str] = FrameChunks(first_pictures=5)
    put(chunks, 0, 1, 2, 3)
    assert chunks.take(12) is None
    put(chunks, 4)
    assert indices(chunks.take(12)) == [0, 1, 2, 3, 4]
    put(chunks, *range(5, 16))
    assert chunks.take(12) is None
    put(chunks, 16)
    assert indices(chunks.take(12)) == list(range(5, 17))


def test_each_frame_keeps_its_own_time_and_index() -> None:
    chunks: FrameChunks[str] = FrameChunks()
    put(chunks, 7)
    chunk = chunks.take(4)
    assert chunk is not None
    (frame,) = chunk.frames
    assert (frame.item, frame.captured_at, frame.index) == ("frame 7", 100.0 + 7 / 16, 7)


def test_a_slow_device_gets_evenly_spread_frames_and_the_newest_and_drops_are_counted() -> None:
    chunks: FrameChunks[str] = FrameChunks()
    put(chunks, 0)
    chunks.take(4)
    put(chunks, *range(1, 9))
    chunk = chunks.take(4)
    assert indices(chunk) == [2, 4, 6, 8]
    assert chunk is not None and chunk.dropped == 4 == chunks.dropped
    put(chunks, *range(9, 15))
    assert indices(chunks.take(4)) == [9, 11, 12, 14]
    assert chunks.dropped == 6 and chunks.waiting == 0


def test_a_late_start_takes_the_newest_frames_as_they_follow_each_other() -> None:
    chunks: FrameChunks[str] = FrameChunks(first_pictures=5)
    put(chunks, *range(12))
    chunk = chunks.take(4)
    assert indices(chunk) == [7, 8, 9, 10, 11]
    assert chunk is not None and chunk.dropped == 7


def test_what_waits_is_bounded() -> None:
    chunks: FrameChunks[str] = FrameChunks(room=8)
    put(chunks, *range(1000))
    assert (chunks.waiting, chunks.dropped) == (8, 992)
    assert chunks.oldest_captured_at == 100.0 + 992 / 16
    assert indices(chunks.take(4)) == [999]
    assert chunks.dropped == 999 and chunks.oldest_captured_at is None


def test_a_reset_starts_over_and_counts_what_waited() -> None:
    chunks: FrameChunks[str] = FrameChunks()
    put(chunks, 0)
    chunks.take(4)
    put(chunks, 1, 2)
    chunks.reset(first_pictures=5)
    assert (chunks.waiting, chunks.dropped, chunks.is_first) == (0, 2, True)
    put(chunks, *range(3, 8))
    chunk = chunks.take(4)
    assert chunk is not None and chunk.first and chunk.dropped == 0 and indices(chunk) == [3, 4, 5, 6, 7]


@pytest.mark.parametrize("pictures", [0, -4, 33])
def test_a_number_that_never_fits_is_refused(pictures: int) -> None:
    chunks: FrameChunks[str] = FrameChunks()
    for ask in (lambda: chunks.take(pictures), lambda: FrameChunks(first_pictures=pictures), lambda: chunks.reset(first_pictures=pictures)):
        with pytest.raises(ValueError, match="1 to 32 pictures"):
            ask()


@given(st.lists(st.one_of(st.integers(1, 12), st.just("take"), st.just("take 8"), st.just("reset")), max_size=60), st.sampled_from([1, 5]))
def test_every_frame_is_shown_once_dropped_or_waiting_and_in_order(happens: list[int | str], first: int) -> None:
    chunks: FrameChunks[str] = FrameChunks(first_pictures=first, room=16)
    came, shown = 0, list[int]()
    for event in happens:
        if isinstance(event, int):
            put(chunks, *range(came, came + event))
            came += event
        elif event == "reset":
            chunks.reset()
        else:
            wanted, was_first = 8 if event == "take 8" else 4, chunks.is_first
            chunk = chunks.take(wanted)
            if chunk is not None:
                assert len(chunk.frames) == (first if was_first else wanted)
                assert indices(chunk)[-1] == came - 1
                shown += indices(chunk)
        assert len(shown) + chunks.dropped + chunks.waiting == came
        assert chunks.waiting <= 16
    assert shown == sorted(set(shown))
