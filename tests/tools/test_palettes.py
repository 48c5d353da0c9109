"""Named colours, changes of light and clouds against closed forms."""

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from embedded.pairs import clouds, finished, seeded_noise
from embedded.palettes import COLOUR_NAMES, COLOURS, PALETTE_SHARE, TONES, ToneChange, recoloured, retoned
from embedded.recipes import Recipe

Picture = npt.NDArray[np.uint8]


def grey(*values: int) -> Picture:
    """One row of grey pixels."""
    return np.array([[[value] * 3 for value in values]], dtype=np.uint8)


def palette_part(picture: Picture, first: str, second: str | None) -> npt.NDArray[np.float64]:
    """What the palette adds to a recoloured picture, without the look's own share."""
    made = recoloured(picture, first, second).astype(np.float64)
    return np.asarray((made - (1 - PALETTE_SHARE) * picture) / PALETTE_SHARE)


def test_shadows_and_lights_of_a_recoloured_picture_are_the_two_colours() -> None:
    shown = palette_part(grey(0, 92, 189, 255), "gold", "navy")[0]
    navy, gold = np.array(COLOURS["navy"]), np.array(COLOURS["gold"])
    wanted = np.stack([0.15 * navy, navy, gold, 0.45 * gold + 0.55 * 255])
    assert np.abs(shown - wanted).max() <= 2.5  # two roundings to bytes, and 92/255 for 0.36


def test_between_two_stops_colours_run_linearly() -> None:
    low, middle, high = palette_part(grey(100, 140, 180), "red", "white")[0]
    assert np.abs((low + high) / 2 - middle).max() <= 2.5


@pytest.mark.parametrize("pair", [("red", "blue"), ("black", "white"), ("olive", "hot pink")])
def test_the_order_of_two_colours_makes_no_difference(scene: Picture, pair: tuple[str, str]) -> None:
    assert np.array_equal(recoloured(scene, *pair), recoloured(scene, *reversed(pair)))


@pytest.mark.parametrize("name", COLOUR_NAMES)
def test_one_colour_serves_as_both_and_light_stays_lighter_than_shadow(name: str) -> None:
    dark, light = palette_part(grey(92, 189), name, None)[0]
    colour = np.array(COLOURS[name])
    assert np.abs(dark - 0.55 * colour).max() <= 2.5
    assert np.abs(light - (0.35 * 255 + 0.65 * colour)).max() <= 2.5


def test_gamma_of_a_change_of_light_is_a_power_of_the_brightness() -> None:
    values = np.arange(0, 256, 15)
    made = retoned(grey(*values), ToneChange(1.6, 1.0, 1.0, ("dark",)))[0, :, 0]
    assert np.abs(made - 255 * (values / 255) ** 1.6).max() <= 2


def test_saturation_and_contrast_multiply_around_grey() -> None:
    picture = np.array([[(120, 90, 100), (60, 140, 90), (100, 100, 160)]], dtype=np.uint8)
    brightness = (picture @ [0.299, 0.587, 0.114])[..., None]
    muted = retoned(picture, ToneChange(1.0, 0.35, 1.0, ("muted",)))
    assert np.abs(muted - (brightness + 0.35 * (picture - brightness))).max() <= 2
    hard = retoned(picture, ToneChange(1.0, 1.0, 1.6, ("hard",)))
    assert np.abs(hard - (127.5 + 1.6 * (picture - 127.5))).max() <= 2


def test_every_change_of_light_does_what_its_words_say(scene: Picture) -> None:
    def facts(picture: Picture) -> tuple[float, float, float]:
        hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).astype(np.float64)
        return float(hsv[..., 0].mean()), float(np.hypot(hsv[..., 1] - 128, hsv[..., 2] - 128).mean()), float(hsv[..., 0].std())

    light, colour, spread = facts(scene)
    by_word = {change.phrases[0]: facts(retoned(scene, change)) for change in TONES}
    assert by_word["very dark"][0] < light < by_word["very bright"][0]
    assert by_word["muted colours"][1] < 0.6 * colour < 1.2 * colour < by_word["vivid colours"][1]
    assert by_word["faded"][2] < spread < by_word["high contrast"][2]
    words = [phrase for change in TONES for phrase in change.phrases]
    assert len(set(words)) == len(words)


def test_a_finished_picture_has_its_colours_and_its_light_and_no_others(scene: Picture) -> None:
    assert np.array_equal(finished(scene, Recipe(0)), scene)
    red, teal = COLOUR_NAMES.index("red"), COLOUR_NAMES.index("teal")
    assert np.array_equal(finished(scene, Recipe(0, colours=(red, teal))), recoloured(scene, "red", "teal"))
    assert np.array_equal(finished(scene, Recipe(0, tone=2)), retoned(scene, TONES[2]))


def test_clouds_come_from_the_noise_alone() -> None:
    noise = seeded_noise(5, side=128)
    first = clouds(noise)
    torch.manual_seed(99)
    np.random.seed(99)
    assert first.shape == (128, 128, 3) and np.array_equal(first, clouds(noise.clone()))
    assert torch.equal(noise, seeded_noise(5, side=128))
    assert np.abs(first.astype(float) - clouds(seeded_noise(6, side=128))).mean() > 20


def test_a_small_step_of_the_noise_moves_the_clouds_no_more_than_their_slopes_allow() -> None:
    noise = seeded_noise(5, side=128)
    aside = torch.randn(noise.shape, generator=torch.Generator().manual_seed(8)).clamp(-1, 1)
    step = 0.004
    change = np.abs(clouds(noise + step * aside).astype(float) - clouds(noise))
    # cubic weights sum to at most 1.375 an axis in size, a blur adds nothing; then the slopes of both sines, and rounding
    assert change.max() <= 255 * (0.5 * 1.5 + 0.65 * 0.5 * 2.5) * step * 1.375**2 / 0.24 + 1
    assert 0 < change.mean() < 2


def test_the_noise_of_clouds_has_unit_spread_after_its_blur() -> None:
    """Blurring white noise of cells by s cells leaves 1 / (2 sqrt(pi) s), here 0.25; the clouds divide by 0.24."""
    fields = [seeded_noise(seed, side=256)[0].numpy() for seed in range(12)]
    soft = [cv2.GaussianBlur(cv2.resize(f, (256, 256), interpolation=cv2.INTER_CUBIC), (0, 0), 9.0)[48:-48, 48:-48] for f in fields]
    assert np.std(soft) == pytest.approx(1 / (2 * np.sqrt(np.pi) * 9 / 8), abs=0.02)
    assert np.std(soft) / 0.24 == pytest.approx(1, abs=0.1)
