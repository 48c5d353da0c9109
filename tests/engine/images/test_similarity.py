"""Likeness of frames and the decision to skip, against closed forms."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.frames import PixelFormat
from engine.images.similarity import SimilarityFilter, likeness, skip_probability, thumbnail


def even(level: int, format: PixelFormat = PixelFormat.BGRX, size: tuple[int, int] = (120, 160)) -> NDArray[np.uint8]:
    return np.full((*size, format.channels), level, np.uint8)


@pytest.mark.parametrize("format", PixelFormat)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("level", [0, 1, 127, 128, 255])
def test_equal_frames_are_exactly_alike(format: PixelFormat, dtype: type[np.floating], level: int) -> None:
    small = thumbnail(even(level, format), format).astype(dtype)
    assert likeness(small, small.copy()) == 1.0


@pytest.mark.parametrize(("a", "b"), [(0, 255), (128, 255), (0, 128), (100, 101)])
def test_brightness_counts(a: int, b: int) -> None:
    """Two evenly grey frames differ by their levels; a cosine would take all of them for equal."""
    result = likeness(thumbnail(even(a), PixelFormat.BGRX), thumbnail(even(b), PixelFormat.BGRX))
    assert result == pytest.approx(1 - (b - a) / 255, abs=1e-6)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_single_colour_counts_in_full(channel: int) -> None:
    tinted = even(0)
    tinted[..., channel] = 51
    assert likeness(thumbnail(even(0), PixelFormat.BGRX), thumbnail(tinted, PixelFormat.BGRX)) == pytest.approx(0.8)


def test_alpha_counts_only_where_it_means_something() -> None:
    opaque, clear = even(90), even(90)
    opaque[..., 3], clear[..., 3] = 255, 0
    assert likeness(thumbnail(opaque, PixelFormat.BGRA), thumbnail(clear, PixelFormat.BGRA)) == pytest.approx(0.0)
    assert likeness(thumbnail(opaque, PixelFormat.BGRX), thumbnail(clear, PixelFormat.BGRX)) == 1.0
    assert likeness(thumbnail(opaque, PixelFormat.BGRA), thumbnail(opaque, PixelFormat.BGRX)) == 0.0


def test_a_thumbnail_is_the_area_mean() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (128, 192, 4), dtype=np.uint8)
    means = pixels.reshape(64, 2, 64, 3, 4).mean(axis=(1, 3))[..., :3] / 255
    assert np.abs(thumbnail(pixels, PixelFormat.BGRX) - means).max() <= 0.51 / 255


def test_a_small_thing_that_moves_is_seen_in_a_large_frame() -> None:
    before, after = even(20, size=(1080, 1920)), even(20, size=(1080, 1920))
    after[500:520, 900:920] = 255
    assert likeness(thumbnail(before, PixelFormat.BGRX), thumbnail(after, PixelFormat.BGRX)) < 1.0 - 0.005


def test_uyvy_and_bgrx_of_one_picture_have_one_thumbnail(photo: NDArray[np.uint8]) -> None:
    """The bytes of the two colours are those of the standard's bars."""
    pixels = np.zeros((100, 100, 2), np.uint8)
    pixels[:, ::2], pixels[:, 1::2] = (102, 63), (240, 63)
    red = np.zeros((100, 100, 4), np.uint8)
    red[..., 2] = 255
    assert likeness(thumbnail(pixels, PixelFormat.UYVY), thumbnail(red, PixelFormat.BGRX)) > 0.99


@pytest.mark.parametrize("size", [(1, 2), (16, 16), (64, 64), (65, 130), (127, 128), (129, 64), (2160, 3840)])
@pytest.mark.parametrize("format", PixelFormat)
def test_every_size_has_a_thumbnail(size: tuple[int, int], format: PixelFormat) -> None:
    small = thumbnail(even(77, format, size), format)
    assert small.shape == (64, 64, 4 if format is PixelFormat.BGRA else 3)
    assert small.dtype == np.float32
    assert np.isfinite(small).all() and small.min() >= 0.0 and small.max() <= 1.0


@pytest.mark.parametrize(
    ("likeness", "threshold", "expected"),
    [(1.0, 0.98, 1.0), (0.98, 0.98, 0.0), (0.99, 0.98, 0.5), (0.2, 0.98, 0.0), (1.0, 1.0, 0.0), (1.0, 1.5, 0.0), (0.3, 0.0, 0.3)],
)
def test_the_chance_to_skip(likeness: float, threshold: float, expected: float) -> None:
    assert skip_probability(likeness, threshold) == pytest.approx(expected)


def test_a_still_input_is_computed_once_in_max_skip_plus_one() -> None:
    still, filter = thumbnail(even(128), PixelFormat.BGRX), SimilarityFilter()
    passed = [filter.admit(still, threshold=0.98, max_skip=10, draw=0.999) for _ in range(34)]
    assert [index for index, admitted in enumerate(passed) if admitted] == [0, 11, 22, 33]
    assert filter.skipped == 30


def test_an_ordinary_pass_starts_the_count_again() -> None:
    a, b = thumbnail(even(0), PixelFormat.BGRX), thumbnail(even(255), PixelFormat.BGRX)
    filter = SimilarityFilter()
    order = [a, a, a, b, b, b, b, b]
    passed = [filter.admit(frame, threshold=0.9, max_skip=3, draw=0.5) for frame in order]
    assert passed == [True, False, False, True, False, False, False, True]


def test_a_slow_fade_is_measured_from_the_last_admitted_frame() -> None:
    """One level a frame looks like nothing; against the last computed frame it adds up."""
    filter = SimilarityFilter()
    passed = [filter.admit(thumbnail(even(level), PixelFormat.BGRX), threshold=0.98, max_skip=1000, draw=0.0) for level in range(100, 130)]
    assert [index for index, admitted in enumerate(passed) if admitted] == [0, 6, 12, 18, 24]


def test_the_draw_decides_between_the_ends() -> None:
    a, b = thumbnail(even(100), PixelFormat.BGRX), thumbnail(even(101), PixelFormat.BGRX)
    chance = skip_probability(likeness(a, b), 0.99)
    for draw, admitted in ((chance - 1e-6, False), (chance + 1e-6, True)):
        filter = SimilarityFilter()
        filter.admit(a, threshold=0.99, max_skip=10, draw=0.0)
        assert filter.admit(b, threshold=0.99, max_skip=10, draw=draw) is admitted


def test_no_skip_is_allowed_at_zero_and_reset_forgets() -> None:
    still, filter = thumbnail(even(9), PixelFormat.BGRX), SimilarityFilter()
    assert all(filter.admit(still, threshold=0.5, max_skip=0, draw=0.0) for _ in range(5))
    assert not filter.admit(still, threshold=0.5, max_skip=5, draw=0.0)
    filter.reset()
    assert filter.admit(still, threshold=0.5, max_skip=5, draw=0.0)


def test_a_photo_and_its_moved_copy_differ(photo: NDArray[np.uint8]) -> None:
    frame = np.asarray(cv2.cvtColor(photo, cv2.COLOR_BGR2BGRA))
    moved = np.roll(frame, 40, axis=1)
    assert likeness(thumbnail(frame, PixelFormat.BGRX), thumbnail(moved, PixelFormat.BGRX)) < 0.95
