"""The picture of prompts: its grid, its frame, and that the engine's stream draws each prompt anew and the same again."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from draw_prompts import GAP, PROMPTS, chosen_frame, drawn, grid, labelled, rgb

from bridge.opening import Wishes, open_with

Picture = npt.NDArray[np.uint8]


@pytest.fixture
def photo(tmp_path: Path, scene: Picture) -> Path:
    path = tmp_path / "scene.png"
    cv2.imwrite(str(path), cv2.cvtColor(scene, cv2.COLOR_RGB2BGR))
    return path


def test_there_are_nine_prompts() -> None:
    assert len(set(PROMPTS)) == 9


def test_the_chosen_frame_is_the_picture_and_one_beyond_the_end_is_refused(photo: Path, scene: Picture) -> None:
    assert np.array_equal(rgb(chosen_frame(photo, 0)), scene)
    with pytest.raises(ValueError, match="smaller --frame"):
        chosen_frame(photo, 1)


def test_ten_pictures_make_two_rows_of_five_with_white_between() -> None:
    pictures = [np.full((8, 8, 3), 10 * number, np.uint8) for number in range(10)]
    sheet = grid(pictures)
    assert sheet.shape == (2 * 8 + GAP, 5 * 8 + 4 * GAP, 3)
    for number, picture in enumerate(pictures):
        top, left = number // 5 * (8 + GAP), number % 5 * (8 + GAP)
        assert np.array_equal(sheet[top : top + 8, left : left + 8], picture)
    assert (sheet[8 : 8 + GAP] == 255).all() and (sheet[:, 8 : 8 + GAP] == 255).all()


def test_a_label_writes_on_a_band_and_leaves_the_rest(scene: Picture) -> None:
    shown = labelled(scene, "neon edges")
    assert np.array_equal(shown[:230], scene[:230]) and shown[230:].max() == 255 and shown[230:, -20:].max() < 70


def test_the_stream_draws_each_prompt_anew_and_the_same_again(photo: Path, tiny_model: Callable[[str], Path]) -> None:
    frame = chosen_frame(photo, 0)
    opening = open_with(Wishes(model=str(tiny_model("flow")), size="64x64", assignments=("steps=2", "strength=1")))
    first, other, again = drawn(frame, ["oil", "cat", "oil"], opening)
    assert first.shape == (64, 64, 3)
    assert np.array_equal(first, again) and not np.array_equal(first, other)
