"""The last part of making a pair: colours and light against closed forms, and recipes finished with a teacher of closed form."""

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from embedded import finishing
from embedded.concepts import Concept
from embedded.finishing import Finisher, brightness, on_device, recoloured, retoned, signed
from embedded.networks import LATENTS
from embedded.pairs import PROMPTS, DrawnPairs
from embedded.palettes import COLOUR_NAMES, COLOURS, PALETTE_SHARE, STOPS, TONES, palette_stops
from embedded.recipes import Recipe
from embedded.tokenizer import MAX_TOKENS

CPU = torch.device("cpu")
Picture = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


def channels_first(pictures: npt.NDArray[Any]) -> torch.Tensor:
    """[B, H, W, 3] in [0, 255] -> [B, 3, H, W] in [0, 1]."""
    return torch.from_numpy(np.asarray(pictures, np.float32) / 255).permute(0, 3, 1, 2)


def grey(*values: float) -> torch.Tensor:
    """One row of grey pixels of that brightness in [0, 1]."""
    return torch.tensor(values)[None, None, None].expand(1, 3, 1, -1)


def stops(*names: str | None) -> torch.Tensor:
    return torch.from_numpy(palette_stops(*names))[None] / 255  # type: ignore[arg-type]


def palette_part(picture: torch.Tensor, *names: str | None) -> Floats:
    """What the palette adds to a recoloured row, without the look's own share: [W, 3] in [0, 255]."""
    made = (recoloured(picture, stops(*names)) - (1 - PALETTE_SHARE) * picture) / PALETTE_SHARE
    return 255 * made[0, :, 0].T.double().numpy()


def recoloured_by_numpy(picture: Floats, names: tuple[str, str | None]) -> Floats:
    """[H, W, 3] in [0, 1], by interpolation over a table."""
    tone = picture @ [0.299, 0.587, 0.114]
    made = np.stack([np.interp(tone, STOPS, palette_stops(*names)[:, c] / 255) for c in range(3)], axis=-1)
    return np.asarray(PALETTE_SHARE * made + (1 - PALETTE_SHARE) * picture)


def retoned_by_numpy(picture: Floats, gamma: float, saturation: float, contrast: float) -> Floats:
    curved = picture**gamma
    tone = (curved @ [0.299, 0.587, 0.114])[..., None]
    return np.asarray(np.clip(0.5 + contrast * (tone + saturation * (curved - tone) - 0.5), 0, 1))


def drawn(recipes: list[Recipe], pictures: Picture) -> DrawnPairs:
    """Pairs whose drawn pictures are `pictures` [N, S, S, 3]."""
    count, side = len(recipes), pictures.shape[1]
    noise = np.zeros((count, LATENTS, side // 8, side // 8), np.float16)
    rows = np.array([recipe.row() for recipe in recipes], np.int64)
    return DrawnPairs(pictures, pictures, rows, np.zeros((count, PROMPTS, MAX_TOKENS), np.int16), noise)


@pytest.fixture
def crops(scene: Picture) -> Picture:
    """Different pictures [8, 32, 32, 3]."""
    return np.stack([scene[place : place + 32, 2 * place : 2 * place + 32] for place in range(8, 104, 12)])


def test_signed_pictures_are_minus_one_to_one_with_channels_first(scene: Picture) -> None:
    made = signed(torch.from_numpy(scene[None].copy()))
    assert made.is_contiguous(memory_format=torch.channels_last) and made.shape == (1, 3, 256, 256)
    np.testing.assert_allclose(made[0].numpy(), scene.transpose(2, 0, 1) / 127.5 - 1, atol=1e-6)
    assert signed(torch.tensor([[[[0, 255, 51]]]], dtype=torch.uint8)).flatten().tolist() == pytest.approx([-1, 1, -0.6])


def test_an_array_keeps_its_values_and_type_on_its_way_to_the_device() -> None:
    array = np.arange(12, dtype=np.int16).reshape(3, 4)[:, ::-1]
    made = on_device(array, CPU)
    assert made.dtype == torch.int16 and np.array_equal(made.numpy(), array)


def test_brightness_is_that_of_opencv(scene: Picture) -> None:
    made = brightness(channels_first(scene[None]))
    assert made.shape == (1, 1, 256, 256)
    np.testing.assert_allclose(made[0, 0].numpy(), cv2.cvtColor(np.float32(scene / 255), cv2.COLOR_RGB2GRAY), atol=1e-5)


def test_shadows_and_lights_of_a_recoloured_picture_are_the_two_colours() -> None:
    navy, gold = np.array(COLOURS["navy"]), np.array(COLOURS["gold"])
    wanted = np.stack([0.15 * navy, navy, gold, 0.45 * gold + 0.55 * 255])
    np.testing.assert_allclose(palette_part(grey(*STOPS), "gold", "navy"), wanted, atol=1e-2)


def test_between_two_stops_colours_run_linearly() -> None:
    low, middle, high = palette_part(grey(0.4, 0.55, 0.7), "red", "white")
    np.testing.assert_allclose((low + high) / 2, middle, atol=1e-2)


def test_each_picture_of_a_batch_is_recoloured_by_its_own_palette_as_numpy_interpolates(crops: Picture) -> None:
    names = [("red", "teal"), ("gold", None), ("black", "white"), ("hot pink", "olive")]
    made = recoloured(channels_first(crops[:4]), torch.cat([stops(*pair) for pair in names]))
    for picture, pair, one in zip(crops[:4], names, made.permute(0, 2, 3, 1).numpy(), strict=True):
        np.testing.assert_allclose(one, recoloured_by_numpy(picture / 255, pair), atol=1e-5)


def test_gamma_of_a_change_of_light_is_a_power_of_the_brightness() -> None:
    values = torch.linspace(0, 1, 18)
    made = retoned(grey(*values.tolist()), torch.tensor([1.6]), torch.ones(1), torch.ones(1))
    torch.testing.assert_close(made[0, 1, 0], values**1.6, atol=1e-5, rtol=0)


def test_saturation_and_contrast_multiply_around_grey() -> None:
    picture = np.array([[[(120, 90, 100), (60, 140, 90), (100, 100, 160)]]]) / 255
    bright = (picture @ [0.299, 0.587, 0.114])[..., None]
    one, tensor = torch.ones(1), channels_first(255 * picture)
    muted = retoned(tensor, one, torch.tensor([0.35]), one).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(muted, bright + 0.35 * (picture - bright), atol=1e-5)
    hard = retoned(tensor, one, one, torch.tensor([1.6])).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(hard, 0.5 + 1.6 * (picture - 0.5), atol=1e-5)
    assert float(retoned(tensor, one, one, torch.tensor([9.0])).amin()) == 0 and float(retoned(tensor, one, one, 9 * one).amax()) == 1


def test_each_picture_of_a_batch_is_retoned_by_its_own_change_as_numpy_does(crops: Picture) -> None:
    changes = [(change.gamma, change.saturation, change.contrast) for change in TONES]
    made = retoned(channels_first(crops[: len(TONES)]), *torch.tensor(changes).T)
    for picture, change, one in zip(crops, changes, made.permute(0, 2, 3, 1).numpy(), strict=False):
        np.testing.assert_allclose(one, retoned_by_numpy(picture / 255, *change), atol=1e-5)


def test_a_drawn_recipe_leaves_the_drawn_picture_bit_for_bit(crops: Picture, toy_concepts: list[Concept], planted_teacher: Any) -> None:
    recipes = [Recipe(0), Recipe(1, second=2), Recipe(3, noise_seed=7)]
    made = Finisher(toy_concepts, planted_teacher, CPU)(drawn(recipes, crops[:3]))
    assert made.dtype == torch.uint8 and made.is_contiguous() and np.array_equal(made.numpy(), crops[:3])
    assert planted_teacher.counts == []


def test_a_finished_picture_has_its_colours_and_its_light_and_no_others(
    crops: Picture, toy_concepts: list[Concept], planted_teacher: Any
) -> None:
    red, teal = COLOUR_NAMES.index("red"), COLOUR_NAMES.index("teal")
    recipes = [Recipe(0, tone=2), Recipe(0), Recipe(0, colours=(red, teal)), Recipe(0, colours=(teal, -1)), Recipe(0, tone=0)]
    made = Finisher(toy_concepts, planted_teacher, CPU)(drawn(recipes, crops[:5])).numpy().astype(float)
    muted, dark = ((change.gamma, change.saturation, change.contrast) for change in (TONES[2], TONES[0]))
    wanted = [
        retoned_by_numpy(crops[0] / 255, *muted),
        crops[1] / 255,
        recoloured_by_numpy(crops[2] / 255, ("red", "teal")),
        recoloured_by_numpy(crops[3] / 255, ("teal", None)),
        retoned_by_numpy(crops[4] / 255, *dark),
    ]
    assert np.abs(made - 255 * np.stack(wanted)).max() <= 0.51  # rounding to bytes


def test_the_teacher_paints_the_rows_that_ask_for_it_first_before_second_and_colours_come_after(
    crops: Picture, toy_concepts: list[Concept], planted_teacher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finishing, "TEACHER_BATCH", 2)
    taught = [number for number, concept in enumerate(toy_concepts) if concept.vector is not None]
    a, b, c, d = taught[3], taught[40], taught[77], taught[12]
    gold = COLOUR_NAMES.index("gold")
    recipes = [Recipe(0), Recipe(a), Recipe(1, second=b), Recipe(a, second=c), Recipe(d, colours=(gold, -1)), Recipe(b, tone=4), Recipe(2)]
    made = Finisher(toy_concepts, planted_teacher, CPU)(drawn(recipes, crops[:7])).numpy().astype(float)
    assert planted_teacher.counts == [2, 2, 2]  # a, a | d, b as first; b, c as second

    def taught_by(picture: Floats, number: int) -> Floats:
        vector = toy_concepts[number].vector
        assert vector is not None
        return np.asarray(0.5 * picture + 0.5 / (1 + np.exp(-vector[:3].astype(float))))

    crop = crops / 255
    hard = (TONES[4].gamma, TONES[4].saturation, TONES[4].contrast)
    wanted = [
        crop[0],
        taught_by(crop[1], a),
        taught_by(crop[2], b),
        taught_by(taught_by(crop[3], a), c),
        recoloured_by_numpy(taught_by(crop[4], d), ("gold", None)),
        retoned_by_numpy(taught_by(crop[5], b), *hard),
        crop[6],
    ]
    assert np.abs(made - 255 * np.stack(wanted)).max() <= 0.52


def test_finishing_one_by_one_equals_finishing_together(crops: Picture, toy_concepts: list[Concept], planted_teacher: Any) -> None:
    last = len(toy_concepts) - 1
    recipes = [Recipe(last), Recipe(0, colours=(2, 5)), Recipe(last - 3, second=last), Recipe(4, tone=1)]
    finisher, together = Finisher(toy_concepts, planted_teacher, CPU), drawn(recipes, crops[:4])
    whole = finisher(together)
    for row in range(4):
        alone = replace(together, drawn=together.drawn[row : row + 1], recipes=together.recipes[row : row + 1])
        assert torch.equal(finisher(alone)[0], whole[row])
