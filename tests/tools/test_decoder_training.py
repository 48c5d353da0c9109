"""The decoder that learns on with the finished denoiser: what it is shown, what stands still, and runs that are taken up again."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from embedded import decoder as module
from embedded.concepts import Concept
from embedded.conditioned import Conditioned
from embedded.decoder import DecoderTraining, finished_decoder
from embedded.finishing import Finisher
from embedded.inversion import EachInTurn, plain_ids, plain_texts
from embedded.networks import LATENTS
from embedded.pairs import PairArtist
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from tests.tools.standing_networks import Painter

CPU = torch.device("cpu")
FEW = 2


@pytest.fixture
def begun(
    tmp_path: Path,
    encoder: CLIPTextModel,
    autoencoder: AutoencoderTiny,
    few_artist: Callable[[], PairArtist],
    few_concepts: list[Concept],
    planted_teacher: Any,
    tokenizer: CLIPTokenizer,
) -> Callable[[], DecoderTraining]:
    """Begins the run in a work folder, or takes it up again."""

    def made() -> DecoderTraining:
        network, finisher = Conditioned(Painter(), encoder, autoencoder.decoder), Finisher(few_concepts, planted_teacher, CPU)  # type: ignore[arg-type]
        texts = plain_texts(encoder, plain_ids(tokenizer, few_concepts))
        return DecoderTraining(tmp_path, network, autoencoder, few_artist(), finisher, texts=texts, seed=1)

    return made


def again(training: DecoderTraining, count: int) -> dict[str, torch.Tensor]:
    """One step on the same pairs and the same noise as ever."""
    training.generator.manual_seed(5)
    training.draws = np.random.default_rng(6)
    training.artist.book = EachInTurn(training.finisher.concepts)  # type: ignore[assignment]
    return training.one_step(count, few=FEW)


def test_the_decoder_alone_learns_to_show_what_is_wanted(begun: Callable[[], DecoderTraining], autoencoder: AutoencoderTiny) -> None:
    training = begun()
    before = [copy.deepcopy(part.state_dict()) for part in (training.network, training.autoencoder)]
    first = copy.deepcopy(training.decoder.state_dict())
    for group in training.optimizer.param_groups:
        group["lr"] = 2e-3
    values = [again(training, 4) for _ in range(10)]
    assert values[-1]["pixels"] < 0.9 * values[0]["pixels"] and all(np.isfinite(value.item()) for value in values[-1].values())
    for part, state in zip((training.network, training.autoencoder), before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in part.state_dict().items())
    assert not all(torch.equal(value, first[name]) for name, value in training.decoder.state_dict().items())
    assert not all(torch.equal(a, b) for a, b in zip(training.decoder.parameters(), training.average.parameters(), strict=True))


def test_paintings_finished_pictures_photos_and_moved_photos_are_shown_and_each_compared_with_its_own(
    begun: Callable[[], DecoderTraining], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With latents that are pictures themselves: what is wanted of everything but the paintings is what is shown of it."""
    training, seen = begun(), dict[str, torch.Tensor]()

    def encoded(_: object, pictures: torch.Tensor) -> torch.Tensor:
        return nn.functional.pad(pictures, (0, 0, 0, 0, 0, LATENTS - 3))

    def decoded(decoder: nn.Module, latents: torch.Tensor) -> torch.Tensor:
        return latents[:, :3] + 0 * next(decoder.parameters()).sum()

    compare, unlike = training.critics.compare, module.unsteadiness

    def noted(made: torch.Tensor, wanted: torch.Tensor, *, adversarial: bool) -> object:
        seen["made"], seen["wanted"] = made.detach(), wanted
        return compare(made, wanted, adversarial=adversarial)

    def steadied(earlier: torch.Tensor, later: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        seen["earlier"], seen["later"] = earlier.detach(), later.detach()
        return unlike(earlier, later, places)

    for name, stand_in in (("encoded", encoded), ("decoded", decoded), ("unsteadiness", steadied), ("GRAIN", 0.0)):
        monkeypatch.setattr(module, name, stand_in)
    monkeypatch.setattr(module, "small_motions", lambda count, generator: torch.eye(2, 3).expand(count, 2, 3))
    monkeypatch.setattr(training.critics, "compare", noted)
    training.one_step(4, few=FEW)
    made, wanted = seen["made"], seen["wanted"]
    assert made.shape == wanted.shape == (4 + 2 * FEW, 3, 64, 64)
    torch.testing.assert_close(made[4:], wanted[4:])
    torch.testing.assert_close(wanted[4 : 4 + FEW], wanted[:FEW])
    colour = made[:FEW] - seen["earlier"] / 3  # the painter's: a third of the photo, and what the text says
    torch.testing.assert_close(colour, colour.mean(dim=(2, 3), keepdim=True).expand_as(colour), atol=0.06, rtol=0)  # in bfloat16
    torch.testing.assert_close(seen["earlier"], made[4 + FEW :])
    torch.testing.assert_close(seen["later"], seen["earlier"], atol=1e-3, rtol=0)  # nothing has moved


def test_a_run_goes_on_from_its_checkpoint_exactly_and_leaves_the_averaged_decoder(
    begun: Callable[[], DecoderTraining], autoencoder: AutoencoderTiny, tmp_path: Path
) -> None:
    first = begun()
    same = finished_decoder(tmp_path, autoencoder.decoder)
    assert all(torch.equal(a, b) for a, b in zip(same.parameters(), autoencoder.decoder.parameters(), strict=True))
    again(first, 3)
    first.step = 1
    first.save(12.0)
    second = begun()
    assert (second.step, second.seconds) == (1, 12.0)
    for each in (first, second):
        again(each, 3)
    assert all(torch.equal(a, b) for a, b in zip(first.decoder.parameters(), second.decoder.parameters(), strict=True))
    first.save(13.0)
    finished = finished_decoder(tmp_path, autoencoder.decoder)
    assert all(torch.equal(a, b) for a, b in zip(finished.parameters(), first.average.parameters(), strict=True))


@pytest.mark.usefixtures("counted_time")
def test_a_run_ends_with_its_time_and_leaves_a_checkpoint(begun: Callable[[], DecoderTraining], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NOTE_STEPS", 1)
    training = begun()
    training.run(batch=3, few=FEW, minutes=0.2)
    assert training.step >= 3 and begun().step == training.step and not list(training.work.glob("*.partial"))
    assert (training.work / "decoder.csv").read_text(encoding="utf-8").startswith("step,seconds,pixels")
