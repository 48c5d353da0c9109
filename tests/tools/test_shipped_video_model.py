"""The video model that ships: it loads by its name, moves without an input, follows the one it is given, and hears its prompt."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from embedded_video import figures
from embedded_video.export import megabytes
from embedded_video.looks import looks
from embedded_video.motion import Camera, filmed
from embedded_video.playing import Player
from embedded_video.pool import drawn

from engine.models.catalogue import resolve
from engine.models.video_catalogue import EMBEDDED_VIDEO
from engine.models.video_sources import policies_of_folder
from tests.tools.conftest import ROOT

FOLDER = ROOT / "engine" / "models" / "embedded_video"
Clip = npt.NDArray[np.uint8]

pytestmark = pytest.mark.skipif(not (FOLDER / "model_index.json").exists(), reason="the embedded video model does not ship yet")


@pytest.fixture(scope="module")
def player() -> Player:
    """The shipped model by its name, on one thread."""
    torch.set_num_threads(1)
    return Player(EMBEDDED_VIDEO)


def panned(scene: Clip, *, speed: float, frames: int = 10) -> Clip:
    """A camera that travels over the scene, [frames, 128, 128, 3]."""
    camera = Camera(centre=(110.0, 125.0), speed=(speed, 0.0), span=190.0, zoom=1.0, angle=0.0, turn=0.0)
    return filmed(scene, camera, frames=frames, side=128)


def test_the_folder_is_small_has_its_card_and_is_run_as_the_catalogue_says() -> None:
    assert megabytes(FOLDER) < 30
    assert policies_of_folder(FOLDER, "model_index.json") == resolve(EMBEDDED_VIDEO).video
    card = (FOLDER / "MODEL.md").read_text(encoding="utf-8")
    assert "Data and licences" in card and "fps" in card and "{" not in card


def test_a_dream_moves_goes_on_and_neither_fades_nor_burns_out(player: Player) -> None:
    found = figures.dream_figures(player, "fire", frames=120)
    assert 0.01 < found["change"] < 0.25
    assert found["late_mean"] == pytest.approx(found["early_mean"], abs=0.1)
    assert found["late_contrast"] > 0.6 * found["early_contrast"] > 0.03


def test_what_comes_out_is_the_look_of_what_went_in_and_moves_with_it(player: Player, scene: Clip) -> None:
    look = next(look for look in looks() if look.name == "thermal camera")
    clip, mirrored = panned(scene, speed=3.0), panned(scene, speed=3.0)[:, :, ::-1]
    made = player(clip, look.name, strength=0.5)
    assert figures.psnr(made[6:], drawn(clip, look)[6:]) > figures.psnr(made[6:], drawn(mirrored, look)[6:]) + 2
    assert figures.psnr(made[6:], drawn(clip, look)[6:]) > figures.psnr(made[6:], clip[6:]) + 2


def test_every_prompt_of_the_first_kind_gives_its_own_colours(player: Player, scene: Clip) -> None:
    clip = panned(scene, speed=1.0, frames=3)
    red, green, blue = (player(clip, prompt)[-1].reshape(-1, 3).mean(0) for prompt in ("blood red", "toxic green", "underwater"))
    assert red.argmax() == 0 and green.argmax() == 1 and blue.argmax() == 2


def test_a_changed_prompt_shows_within_a_window(player: Player, scene: Clip) -> None:
    clip = panned(scene, speed=1.0, frames=14)
    switched = player(clip, ["blood red"] * 6 + ["underwater"] * 8)
    alone = player(clip, "underwater")
    before = player(clip, "blood red")
    assert figures.psnr(switched[-1], alone[-1]) > figures.psnr(switched[-1], before[-1]) + 3


def test_a_prompt_longer_than_the_text_encoder_is_cut_and_still_heard(player: Player, scene: Clip) -> None:
    clip = panned(scene, speed=1.0, frames=3)
    made = player(clip, "toxic green " * 40)
    assert made.shape == clip.shape and made[-1].reshape(-1, 3).mean(0).argmax() == 1
