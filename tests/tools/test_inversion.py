"""The inversion: what the text encoder says, and shifts that learn what their concepts look like while all else stands."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from embedded import inversion as module
from embedded.concepts import Concept
from embedded.inversion import Inversion, PaintedStyles, learned_shifts, plain_ids, plain_texts
from embedded.networks import LATENTS, TEXT_WIDTH
from embedded.recipes import EachInTurn
from embedded.tokenizer import token_ids
from transformers import CLIPTextModel, CLIPTokenizer

CPU = torch.device("cpu")


@pytest.fixture
def begun(tmp_path: Path, painted_styles: Callable[[], PaintedStyles], tokenizer: CLIPTokenizer) -> Callable[[], Inversion]:
    """Begins the run in a work folder, or takes it up again."""
    return lambda: Inversion(tmp_path, painted_styles(), tokenizer=tokenizer, seed=1)


def test_plain_texts_are_what_the_encoder_says_of_name_and_prompt(
    encoder: CLIPTextModel, tokenizer: CLIPTokenizer, few_concepts: list[Concept]
) -> None:
    made = plain_texts(encoder, plain_ids(tokenizer, few_concepts))
    with torch.inference_mode():
        for concept, found in zip(few_concepts, made, strict=True):
            phrases = concept.phrases[:2] if len(concept.phrases) > 1 else 2 * concept.phrases
            wanted = encoder(torch.tensor(token_ids(tokenizer, phrases))).last_hidden_state
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_shifts_bring_the_pictures_to_their_concepts_and_nothing_else_learns(
    begun: Callable[[], Inversion], planted_teacher: Any, few_concepts: list[Concept]
) -> None:
    """The teacher colours a picture by the first three numbers of its vector; only the shift can tell the painter so."""
    training = begun()
    still = [copy.deepcopy(part.state_dict()) for part in (training.styles.network, training.styles.autoencoder)]
    values = [training.one_step(6)["pixels"].item() for _ in range(40)]
    assert np.mean(values[-5:]) < 0.6 * np.mean(values[:5])
    moved = training.shifts.detach().norm(dim=1)
    assert bool((moved[:3] > 0.3).all()) and moved[3] == 0, "tags are not asked for"
    assert not training.shifts.detach()[:, LATENTS:].any(), "what the painter does not hear stays"
    told = training.texts[:3, 0, 0, :3] + training.shifts.detach()[:3, :3]
    vectors = torch.from_numpy(np.stack([concept.vector for concept in few_concepts[:3] if concept.vector is not None]))
    colours = torch.sigmoid(vectors[:, :3])
    bright = colours > 0.8
    dark = colours < 0.2
    assert bool(bright.any()) and bool(dark.any()) and told[bright].mean() > told[dark].mean() + 0.4
    for part, state in zip((training.styles.network, training.styles.autoencoder), still, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in part.state_dict().items())


def test_an_inversion_goes_on_from_its_checkpoint_exactly(begun: Callable[[], Inversion], tmp_path: Path) -> None:
    first = begun()
    assert not learned_shifts(tmp_path, 4).any()
    first.one_step(3)
    first.step = 1
    first.save(12.0)
    assert torch.equal(learned_shifts(tmp_path, 4), first.shifts.detach()) and learned_shifts(tmp_path, 4).shape == (4, TEXT_WIDTH)
    again = begun()
    assert (again.step, again.seconds) == (1, 12.0)
    for each in (first, again):
        each.styles.seed(5)
        each.styles.artist.book = EachInTurn(each.styles.finisher.concepts)
        each.one_step(3)
    assert torch.equal(first.shifts, again.shifts)
    assert all(torch.equal(a, b) for a, b in zip(first.styles.distance.buffers(), again.styles.distance.buffers(), strict=True))


@pytest.mark.usefixtures("counted_time")
def test_an_inversion_ends_with_its_time_and_leaves_a_checkpoint(begun: Callable[[], Inversion], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NOTE_STEPS", 1)
    training = begun()
    training.run(batch=3, minutes=0.2)
    assert training.step >= 3 and begun().step == training.step and not list(training.work.glob("*.partial"))
    assert (training.work / "inversion.csv").read_text(encoding="utf-8").startswith("step,seconds,style,pixels")
