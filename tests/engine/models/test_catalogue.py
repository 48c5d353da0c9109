"""The catalogue: its rows, how a name becomes a card, and that it needs no torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine.models.catalogue import BY_NAME, CATALOGUE, ModelCard, UnknownModel, resolve
from engine.settings import SettingsError


def test_importing_the_catalogue_imports_no_torch() -> None:
    code = "import engine.models.catalogue, sys; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("card", CATALOGUE, ids=lambda card: card.name)
def test_every_row_is_found_by_its_name_in_any_case(card: ModelCard) -> None:
    assert resolve(f" {card.name.upper()} ") is card


def test_a_hub_id_finds_its_row_and_never_the_one_with_an_lcm_lora() -> None:
    assert resolve("stabilityai/sd-turbo") is BY_NAME["sd-turbo"]
    assert resolve("stable-diffusion-v1-5/stable-diffusion-v1-5") is BY_NAME["sd15"]
    assert resolve("stabilityai/stable-diffusion-xl-base-1.0").lcm_lora is None


def test_any_other_hub_id_becomes_a_card_of_its_own() -> None:
    card = resolve("KBlueLeaf/kohaku-v2.1")
    assert (card.name, card.source, card.lcm_lora) == ("kohaku-v2.1", "KBlueLeaf/kohaku-v2.1", None)
    assert resolve("somebody/fast-turbo-mix").steps == 1
    assert resolve("somebody/my-lcm").step_method == "consistency"


def test_a_folder_and_a_file_become_cards(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tiny_model("sd15")
    assert (resolve(str(folder)).name, resolve(str(folder)).source) == ("tiny-sd15", str(folder))
    file = tmp_path / "mine.v2.safetensors"
    file.write_bytes(b"")
    assert resolve(str(file)).name == "mine.v2"


def test_a_misspelt_name_gets_the_nearest_and_is_a_settings_error() -> None:
    with pytest.raises(SettingsError, match="no model 'sd-turbp'; did you mean 'sd-turbo'"):
        resolve("sd-turbp")


@pytest.mark.parametrize("text", ["", "zzzzqqq", "a/b/c", "../x y", "owner/", "/name"])
def test_what_can_be_no_model_is_refused(text: str) -> None:
    with pytest.raises(UnknownModel):
        resolve(text)


def test_a_folder_or_file_that_is_no_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="holds no model_index.json"):
        resolve(str(tmp_path))
    with pytest.raises(UnknownModel, match="no model file"):
        resolve(str(tmp_path / "gone.safetensors"))


@pytest.mark.parametrize(
    "card",
    [
        lambda card: replace(card, step_method="heun"),
        lambda card: replace(card, guidance="cfg"),
        lambda card: replace(card, steps=0),
        lambda card: replace(card, strength=1.5),
        lambda card: replace(card, size=(510, 512)),
        lambda card: replace(card, lcm_lora="no hub id"),
        lambda card: replace(card, memory_gb=-1.0),
        lambda card: replace(card, title=""),
    ],
)
def test_a_row_that_contradicts_itself_cannot_be_made(card: Callable[[ModelCard], ModelCard]) -> None:
    with pytest.raises(ValueError, match="the model card 'sd15'"):
        card(BY_NAME["sd15"])
