"""The test pattern: what moves, what is said in the picture, the pace and the end."""

import threading

import numpy as np
import pytest

from bridge.sources.index_blocks import read_index
from bridge.sources.test_pattern import Pattern, TestPattern
from engine.frames import PixelFormat


def test_a_picture_follows_from_its_index_alone() -> None:
    forward, backward = Pattern(160, 120, 30), Pattern(160, 120, 30)
    first = [forward.picture(index).copy() for index in range(6)]
    second = [backward.picture(index).copy() for index in reversed(range(6))]
    assert all(np.array_equal(a, b) for a, b in zip(first, reversed(second), strict=True))


@pytest.mark.parametrize("size", [(64, 64), (513, 77), (200, 333), (1280, 720)])
def test_every_size(size: tuple[int, int]) -> None:
    picture = Pattern(*size, 30).picture(1234)
    assert picture.shape == (size[1], size[0], 4)
    assert picture.flags.c_contiguous and picture.dtype == np.uint8
    assert np.all(picture[..., 3] == 255)
    assert read_index(picture) == 1234


def test_it_moves_without_jumping() -> None:
    pattern = Pattern(256, 256, 30)
    still = pattern.picture(100)[:-16].astype(int)
    near, far = pattern.picture(101)[:-16].astype(int), pattern.picture(160)[:-16].astype(int)
    assert 0.1 < np.abs(near - still).mean() < 5.0 < np.abs(far - still).mean()


def test_it_has_colours_and_edges() -> None:
    picture = Pattern(256, 256, 30).picture(50)[:-16, :, :3].astype(int)
    assert min(picture[..., channel].std() for channel in range(3)) > 25.0
    assert np.abs(np.diff(picture, axis=1)).max() > 120


def test_the_pace_does_not_change_the_motion() -> None:
    """A second is a second: frame 30 at 30 fps shows what frame 60 at 60 fps shows, apart from the index."""
    slow, fast = Pattern(256, 256, 30).picture(30).copy(), Pattern(256, 256, 60).picture(60)
    assert np.array_equal(slow[60:-16], fast[60:-16])


def test_too_small_or_without_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="64 pixels"):
        Pattern(63, 64, 30)
    with pytest.raises(ValueError, match="above 0"):
        TestPattern(lambda *_: None, fps=0.0)


def test_frames_come_in_order_with_their_times(taken) -> None:  # type: ignore[no-untyped-def]
    source = TestPattern(taken.put, 128, 96, fps=100)
    assert source.state == "stopped"
    source.start()
    taken.wait_for(12)
    assert source.state == "playing"
    source.stop()
    assert source.state == "stopped"
    formats, pixels, times, indices = zip(*taken.frames, strict=True)
    assert set(formats) == {PixelFormat.BGRX}
    assert list(indices) == list(range(len(indices)))
    assert [read_index(picture) for picture in pixels] == list(indices)
    assert list(times) == sorted(times)
    assert not any(thread.name == "test pattern" for thread in threading.enumerate())
    assert source.describe() == "test pattern 128x96 at 100 fps"


def test_it_starts_again_from_the_first_frame(taken) -> None:  # type: ignore[no-untyped-def]
    source = TestPattern(taken.put, 64, 64, fps=200)
    source.start()
    taken.wait_for(3)
    source.stop()
    before = len(taken.frames)
    source.start()
    taken.wait_for(before + 2)
    source.stop()
    assert taken.frames[before][3] == 0


def test_a_put_that_fails_ends_the_thread_and_says_so(poll) -> None:  # type: ignore[no-untyped-def]
    def broken(*_: object) -> None:
        raise RuntimeError("no room")

    source = TestPattern(broken, 64, 64)
    source.start()
    poll(lambda: source.state == "failed")
    assert "no room" in source.error
    source.stop()
