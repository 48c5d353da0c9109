"""Named colours and changes of light as a recipe names them: the four stops of a palette, and words that say what happens."""

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from embedded.finishing import retoned
from embedded.palettes import COLOUR_NAMES, COLOURS, STOPS, TONES, ToneChange, palette_stops

Picture = npt.NDArray[np.uint8]


def test_the_stops_of_two_colours_run_from_deep_shadow_to_highlight() -> None:
    navy, gold = np.array(COLOURS["navy"]), np.array(COLOURS["gold"])
    wanted = np.stack([0.15 * navy, navy, gold, 0.45 * gold + 0.55 * 255])
    made = palette_stops("gold", "navy")
    assert made.shape == (len(STOPS), 3) and made.dtype == np.float32
    np.testing.assert_allclose(made, wanted, atol=1e-4)


@pytest.mark.parametrize("pair", [("red", "blue"), ("black", "white"), ("olive", "hot pink")])
def test_the_order_of_two_colours_makes_no_difference(pair: tuple[str, str]) -> None:
    assert np.array_equal(palette_stops(*pair), palette_stops(*reversed(pair)))


@pytest.mark.parametrize("name", COLOUR_NAMES)
def test_one_colour_serves_as_both_and_light_stays_lighter_than_shadow(name: str) -> None:
    deep, dark, light, highlight = palette_stops(name, None)
    colour = np.array(COLOURS[name])
    np.testing.assert_allclose(dark, 0.55 * colour, atol=1e-4)
    np.testing.assert_allclose(light, 0.35 * 255 + 0.65 * colour, atol=1e-4)
    assert (deep <= dark).all() and (dark < light).all() and (light <= highlight).all() and highlight.max() <= 255


def test_the_stops_stand_in_order_within_all_brightnesses() -> None:
    assert STOPS[0] == 0 and STOPS[-1] == 1 and list(STOPS) == sorted(set(STOPS))


def test_every_change_of_light_does_what_its_words_say(scene: Picture) -> None:
    picture = torch.from_numpy(scene).permute(2, 0, 1)[None].float() / 255

    def facts(change: ToneChange | None) -> tuple[float, float, float]:
        made = picture
        if change is not None:
            made = retoned(picture, *(torch.tensor([value]) for value in (change.gamma, change.saturation, change.contrast)))
        lab = cv2.cvtColor(made[0].permute(1, 2, 0).numpy(), cv2.COLOR_RGB2LAB).astype(np.float64)
        return float(lab[..., 0].mean()), float(np.hypot(lab[..., 1], lab[..., 2]).mean()), float(lab[..., 0].std())

    light, colour, spread = facts(None)
    by_word = {change.phrases[0]: facts(change) for change in TONES}
    assert by_word["very dark"][0] < light < by_word["very bright"][0]
    assert by_word["muted colours"][1] < 0.6 * colour < 1.2 * colour < by_word["vivid colours"][1]
    assert by_word["faded"][2] < spread < by_word["high contrast"][2]
    words = [phrase for change in TONES for phrase in change.phrases]
    assert len(set(words)) == len(words)
