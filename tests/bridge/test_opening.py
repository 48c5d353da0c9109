"""With what a run opens: model defaults, then a preset, then what was typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.mistake import PLAIN, Mistake
from bridge.opening import Wishes, open_with, rounded_size
from engine.control.table import UnknownParameter
from engine.models.catalogue import CATALOGUE, resolve
from engine.settings import SettingsError


@pytest.mark.parametrize("card", CATALOGUE, ids=lambda card: card.name)
def test_a_model_opens_with_what_its_card_says(card: object) -> None:
    card = resolve(card.name)  # type: ignore[attr-defined]
    opening = open_with(Wishes(model=card.name))
    targets = opening.values.targets()
    assert (targets["steps"], targets["strength"]) == (card.steps, card.strength)
    assert (targets["guidance"], targets["guidance_scale"]) == (card.guidance, card.guidance_scale)
    assert (targets["width"], targets["height"]) == card.size
    assert opening.settings.model == card.name and opening.notes == ()


def test_a_preset_beats_the_model_and_the_command_line_beats_both(tmp_path: Path) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text("format: 2\nname: Mine\nvalues: {strength: 0.11, steps: 3, seed: 5, prompt: a lake}\n")
    opening = open_with(Wishes(model="sd-turbo", preset=str(preset), assignments=("steps=4", "seed=6"), seed=7, fps=50.0))
    targets = opening.values.targets()
    assert (targets["strength"], targets["prompt"]) == (0.11, "a lake")
    assert (targets["steps"], targets["seed"], targets["output_fps"]) == (4, 7, 50.0)
    assert targets["guidance"] == resolve("sd-turbo").guidance


def test_the_first_snapshot_shows_the_targets_without_a_ramp() -> None:
    values = open_with(Wishes(model="embedded", assignments=("strength=0.2", "mix=0.3"))).values
    first = values.snapshot(0.0)
    assert (first.number("strength"), first.number("mix")) == (0.2, 0.3)


def test_a_former_name_and_the_present_one_are_one_parameter() -> None:
    opening = open_with(Wishes(model="embedded", assignments=("denoise=0.2", "strength=0.4")))
    assert opening.values.get("strength") == 0.4


def test_a_value_may_hold_an_equals_sign_and_spaces() -> None:
    assert open_with(Wishes(model="embedded", assignments=("prompt= e = m c ",))).values.get("prompt") == "e = m c"


def test_numbers_out_of_range_are_clamped_with_a_note() -> None:
    opening = open_with(Wishes(model="embedded", assignments=("strength=3", "steps=2")))
    assert opening.values.get("strength") == 1.0
    assert len(opening.notes) == 1 and "strength 3" in opening.notes[0]


@pytest.mark.parametrize(
    ("text", "size", "noted"),
    [("512x512", (512, 512), False), ("500x300", (496, 304), True), ("64X2048", (64, 2048), False), ("68x65", (64, 64), True)],
)
def test_sizes_are_multiples_of_8(text: str, size: tuple[int, int], noted: bool) -> None:
    assert rounded_size(text)[0] == size
    opening = open_with(Wishes(model="embedded", size=text))
    assert (opening.values.get("width"), opening.values.get("height")) == size
    assert bool(opening.notes) == noted


def test_a_lora_has_a_scale_and_may_have_an_equals_sign_in_its_path() -> None:
    settings = open_with(Wishes(model="embedded", loras=("a.safetensors", "b=c.safetensors=0.5"))).settings
    assert settings.lora == (("a.safetensors", 1.0), ("b=c.safetensors", 0.5))


@pytest.mark.parametrize(
    ("wishes", "kind"),
    [
        (Wishes(model="nonesuch"), SettingsError),
        (Wishes(model="embedded", size="4x4"), SettingsError),
        (Wishes(model="embedded", assignments=("strenght=1",)), UnknownParameter),
        (Wishes(model="embedded", assignments=("strength",)), Mistake),
        (Wishes(model="embedded", preset="nonesuch"), Mistake),
    ],
)
def test_what_is_wrong_is_a_plain_mistake(wishes: Wishes, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        open_with(wishes)
    assert isinstance(caught.value, PLAIN) and "\n" not in str(caught.value)
