"""The looks that the embedded model learns: reproducible, clearly different from each other, true to the photo."""

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from embedded.concepts import Concept
from embedded.looks import DRAWN, RECOMMENDED, Look
from embedded.tones import cell_means, luma, palette

Picture = npt.NDArray[np.uint8]


def signature(picture: Picture) -> npt.NDArray[np.float64]:
    """Coarse colours and the strength of fine detail, as one vector: what the eye tells looks apart by."""
    coarse = cv2.resize(picture, (8, 8), interpolation=cv2.INTER_AREA).astype(np.float64)
    fine = np.abs(picture.astype(np.float64) - cv2.blur(picture, (9, 9))).mean(axis=(0, 1))
    return np.concatenate([coarse.ravel() / np.sqrt(coarse.size), fine])


@pytest.mark.parametrize("look", DRAWN, ids=lambda look: look.name)
def test_a_drawn_look_is_reproducible_and_leaves_its_input_alone(look: Look, scene: Picture) -> None:
    before = scene.copy()
    first, second = look.drawn(scene), look.drawn(scene)
    assert first.shape == scene.shape and first.dtype == np.uint8
    assert np.array_equal(first, second) and np.array_equal(scene, before)
    assert luma(first).std() > 0.03, "the picture is nearly flat"


@pytest.mark.parametrize("look", DRAWN, ids=lambda look: look.name)
def test_a_drawn_look_is_steady_when_the_camera_brightens_by_one_grey_level(look: Look, scene: Picture) -> None:
    """Video must not boil: a change too small to see moves the drawn picture by few grey levels on average."""
    brighter = np.minimum(scene.astype(np.int16) + 1, 255).astype(np.uint8)
    change = np.abs(look.drawn(brighter).astype(np.float64) - look.drawn(scene).astype(np.float64)).mean()
    assert change < 6, f"{look.name} changed by {change:.1f} grey levels"


@pytest.mark.parametrize("look", DRAWN, ids=lambda look: look.name)
def test_a_drawn_look_takes_any_size(look: Look, scene: Picture) -> None:
    small = np.ascontiguousarray(scene[40:136, 40:200])
    assert look.drawn(small).shape == small.shape


def test_no_two_drawn_looks_are_alike(scene: Picture) -> None:
    vectors = {look.name: signature(look.drawn(scene)) for look in DRAWN}
    names = list(vectors)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert np.linalg.norm(vectors[one] - vectors[other]) > 8, f"{one} looks like {other}"


def test_every_drawn_look_has_its_own_prompts() -> None:
    assert len(DRAWN) >= 64 and all(len(look.prompts) >= 5 for look in DRAWN)
    prompts = [prompt for look in DRAWN for prompt in look.prompts]
    assert len(set(prompts)) == len(prompts)


def test_every_recommended_prompt_is_the_plain_name_of_a_concept(real_concepts: list[Concept]) -> None:
    assert len(set(RECOMMENDED)) == len(RECOMMENDED) >= 9
    assert set(RECOMMENDED) <= {concept.phrases[0] for concept in real_concepts}


def test_palette_hits_its_stops_and_runs_linearly_between() -> None:
    tones = np.array([[0.0, 0.25, 0.5, 1.0]], np.float32)
    made = palette(tones, [(0, 0, 0), (100, 200, 0), (255, 255, 255)])
    assert np.abs(made[0].astype(int) - [(0, 0, 0), (50, 100, 0), (100, 200, 0), (255, 255, 255)]).max() <= 2


def test_cell_means_keep_the_mean_of_every_square(scene: Picture) -> None:
    made = cell_means(scene)
    squares = scene.reshape(32, 8, 32, 8, 3).mean(axis=(1, 3))
    assert np.abs(made[::8, ::8] - squares).max() <= 1
    assert np.array_equal(made[::8, ::8], made[7::8, 7::8])
