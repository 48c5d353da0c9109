"""The looks that the embedded model learns: reproducible, clearly different from each other, true to the photo."""

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from embedded.looks import DRAWN, LOOKS, RECOMMENDED, TAUGHT, Look
from embedded.prompts import prompt_variants
from embedded.tones import cell_means, luma, palette

Picture = npt.NDArray[np.uint8]


def signature(picture: Picture) -> npt.NDArray[np.float64]:
    """Coarse colours and the strength of fine detail, as one vector: what the eye tells looks apart by."""
    coarse = cv2.resize(picture, (8, 8), interpolation=cv2.INTER_AREA).astype(np.float64)
    fine = np.abs(picture.astype(np.float64) - cv2.blur(picture, (9, 9))).mean(axis=(0, 1))
    return np.concatenate([coarse.ravel() / np.sqrt(coarse.size), fine])


@pytest.mark.parametrize("look", DRAWN, ids=lambda look: look.name)
def test_a_drawn_look_is_reproducible_and_leaves_its_input_alone(look: Look, scene: Picture) -> None:
    assert look.drawn is not None
    before = scene.copy()
    first, second = look.drawn(scene), look.drawn(scene)
    assert first.shape == scene.shape and first.dtype == np.uint8
    assert np.array_equal(first, second) and np.array_equal(scene, before)
    assert luma(first).std() > 0.03, "the picture is nearly flat"


def test_no_two_drawn_looks_are_alike(scene: Picture) -> None:
    vectors = {look.name: signature(look.drawn(scene)) for look in DRAWN if look.drawn is not None}
    names = list(vectors)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert np.linalg.norm(vectors[one] - vectors[other]) > 8, f"{one} looks like {other}"


def test_every_look_has_one_maker_and_its_own_prompts() -> None:
    assert all((look.drawn is None) != (look.style is None) for look in LOOKS)
    assert len(DRAWN) >= 12 and len(TAUGHT) >= 12
    prompts = [prompt for look in LOOKS for prompt in look.prompts]
    assert len(set(prompts)) == len(prompts)
    assert set(RECOMMENDED) <= {look.name for look in LOOKS} and len(RECOMMENDED) >= 8


def test_prompt_variants_start_with_the_plain_name_and_repeat_by_seed() -> None:
    variants = prompt_variants(LOOKS, count=12, seed=3)
    assert [texts[0] for texts in variants] == [look.name for look in LOOKS]
    assert variants == prompt_variants(LOOKS, count=12, seed=3) != prompt_variants(LOOKS, count=12, seed=4)
    for look, texts in zip(LOOKS, variants, strict=True):
        assert all(any(phrase in text for phrase in look.prompts) for text in texts)


def test_palette_hits_its_stops_and_runs_linearly_between() -> None:
    tones = np.array([[0.0, 0.25, 0.5, 1.0]], np.float32)
    made = palette(tones, [(0, 0, 0), (100, 200, 0), (255, 255, 255)])
    assert np.abs(made[0].astype(int) - [(0, 0, 0), (50, 100, 0), (100, 200, 0), (255, 255, 255)]).max() <= 2


def test_cell_means_keep_the_mean_of_every_square(scene: Picture) -> None:
    made = cell_means(scene)
    squares = scene.reshape(32, 8, 32, 8, 3).mean(axis=(1, 3))
    assert np.abs(made[::8, ::8] - squares).max() <= 1
    assert np.array_equal(made[::8, ::8], made[7::8, 7::8])
