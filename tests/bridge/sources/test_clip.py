"""A clip played live: order, pace by its time stamps, loop, end, stills and folders."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from bridge.sources.clip import MOST_LATE_SECONDS, ClipSource
from bridge.sources.index_blocks import read_index
from bridge.sources.own_thread import SourceError

DrawClip = Callable[..., Path]


def test_it_plays_in_order_and_ends(taken, poll, draw_clip: DrawClip) -> None:  # type: ignore[no-untyped-def]
    source = ClipSource(taken.put, draw_clip(count=10, fps=Fraction(50)), loop=False)
    assert source.state == "stopped" and not source.ended
    source.start()
    poll(lambda: source.ended)
    source.stop()
    assert source.state == "ended"
    assert [read_index(frame[1]) for frame in taken.frames] == list(range(10))
    assert [frame[3] for frame in taken.frames] == list(range(10))


def test_no_frame_comes_before_its_time(taken, poll, draw_clip: DrawClip) -> None:  # type: ignore[no-untyped-def]
    """A busy machine may be late, never early: a frame n is at least n frames after the first was due."""
    source = ClipSource(taken.put, draw_clip(count=12, fps=Fraction(20)), loop=False)
    source.start()
    poll(lambda: source.ended)
    source.stop()
    times = [frame[2] for frame in taken.frames]
    # The first frame is given at or after its due time, so later ones may seem early by its lateness alone.
    assert times[-1] - times[0] > 11 / 20 - MOST_LATE_SECONDS
    assert times == sorted(times)


def test_it_loops_and_counts_on(taken, draw_clip: DrawClip) -> None:  # type: ignore[no-untyped-def]
    source = ClipSource(taken.put, draw_clip(count=5, fps=Fraction(100)))
    source.start()
    taken.wait_for(14)
    source.stop()
    assert not source.ended and source.state == "stopped"
    assert [read_index(frame[1]) for frame in taken.frames[:14]] == [index % 5 for index in range(14)]
    assert [frame[3] for frame in taken.frames[:14]] == list(range(14))


def test_a_still_repeats(taken, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    picture = np.random.default_rng(1).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "still.png"), picture)
    source = ClipSource(taken.put, tmp_path / "still.png", fps=Fraction(200))
    source.start()
    taken.wait_for(6)
    (tmp_path / "still.png").unlink()
    taken.wait_for(len(taken.frames) + 3)
    source.stop()
    assert all(np.array_equal(frame[1], picture) for frame in taken.frames)
    assert source.describe() == "picture still.png 30x20 at 200 fps"


def test_a_folder_plays_at_its_rate(taken, poll, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for number in range(4):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((16, 16, 3), number, np.uint8))
    source = ClipSource(taken.put, tmp_path, loop=False, fps=Fraction(100))
    source.start()
    poll(lambda: source.ended)
    source.stop()
    assert [int(frame[1][0, 0, 0]) for frame in taken.frames] == [0, 1, 2, 3]


def test_a_file_that_vanishes_between_rounds_is_a_plain_failure(taken, poll, draw_clip: DrawClip) -> None:  # type: ignore[no-untyped-def]
    path = draw_clip(count=3, fps=Fraction(100))
    source = ClipSource(taken.put, path)
    path.unlink()
    source.start()
    poll(lambda: source.state == "failed")
    assert "there is no file" in source.error and not source.ended
    source.stop()


def test_stop_does_not_wait_for_a_long_frame(taken, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    cv2.imwrite(str(tmp_path / "slow.png"), np.zeros((16, 16, 3), np.uint8))
    source = ClipSource(taken.put, tmp_path / "slow.png", fps=Fraction(1, 1000))
    source.start()
    taken.wait_for(1)
    source.stop()
    assert source.state == "stopped"


def test_a_broken_file_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    with pytest.raises(SourceError, match="broken.mp4"):
        ClipSource(lambda *_: None, tmp_path / "broken.mp4")


def test_a_real_clip_plays(taken, shared_clips: Path) -> None:  # type: ignore[no-untyped-def]
    source = ClipSource(taken.put, shared_clips / "animation_1280x720.mp4")
    source.start()
    taken.wait_for(5)
    source.stop()
    assert source.describe() == "clip animation_1280x720.mp4 1280x720 at 25 fps"
    assert taken.frames[0][1].shape == (720, 1280, 4)
