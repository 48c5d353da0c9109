"""Whole stages of training on two tiny shards: the losses fall, and a run that is taken up again goes on where it was."""

import copy
import csv
import itertools
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import AutoencoderTiny
from embedded import decoder as polishing
from embedded import denoiser as denoising
from embedded.concepts import Concept
from embedded.critics import Critics, critic_loss
from embedded.decoder import DecoderPolish
from embedded.denoiser import Conditioned, DenoiserTraining, Prompted, denoising_loss
from embedded.latents import LatentBatches
from embedded.networks import new_autoencoder, new_denoiser, new_text_encoder
from embedded.pairs import clouds, seeded_noise
from embedded.prompts import PromptWriter
from embedded.recipes import Recipe
from transformers import CLIPTokenizer

CPU = torch.device("cpu")
PAIRS = 6


@pytest.fixture(autouse=True)
def counted_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock is a second later: a budget is a number of steps on any machine."""
    clock = itertools.count()
    monkeypatch.setattr("embedded.record.time", SimpleNamespace(monotonic=lambda: float(next(clock))))


@pytest.fixture
def work(tmp_path: Path, scene: npt.NDArray[np.uint8], toy_concepts: list[Concept]) -> Path:
    """A work folder with two shards of pairs."""
    generator = np.random.default_rng(1)
    for shard in range(2):
        recipes = [Recipe(int(number)) for number in generator.integers(0, 8, size=PAIRS - 1)] + [Recipe(2, noise_seed=3 + shard)]
        places = [generator.integers(0, 128, size=2) for _ in recipes]
        contents = [np.ascontiguousarray(scene[top : top + 128, left : left + 128]) for top, left in places]
        contents[-1] = clouds(seeded_noise(recipes[-1].noise_seed, side=128))
        draws = [toy_concepts[recipe.first].drawn for recipe in recipes]
        targets = [content if draw is None else draw(content) for draw, content in zip(draws, contents, strict=True)]
        folder = tmp_path / f"pairs_128_{shard:03d}"
        folder.mkdir()
        np.save(folder / "contents.npy", np.stack(contents))
        np.save(folder / "targets.npy", np.stack(targets))
        np.save(folder / "recipes.npy", np.array([recipe.row() for recipe in recipes]))
    return tmp_path


@pytest.fixture
def autoencoder() -> AutoencoderTiny:
    torch.manual_seed(0)
    return new_autoencoder().eval().requires_grad_(False)


def started(work: Path, autoencoder: AutoencoderTiny, tokenizer_folder: Path, concepts: list[Concept]) -> DenoiserTraining:
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder)
    text = new_text_encoder(vocabulary=len(tokenizer), start=tokenizer.bos_token_id, end=tokenizer.eos_token_id)
    network = Conditioned(new_denoiser(), text, autoencoder.decoder)
    return DenoiserTraining(work, Prompted(tokenizer, PromptWriter(concepts, extra={})), network, autoencoder, CPU)


def error_of(training: DenoiserTraining) -> float:
    """The loss on one fixed batch, noise and prompts."""
    batches = LatentBatches(training.work, training.autoencoder, side=128, device=CPU)
    batch = batches.batch(6, generator=np.random.default_rng(0), unprompted=0.1)
    ids = training.prompted.ids(batch, np.random.default_rng(0))
    directions, generator = batches.colour_directions(), torch.Generator().manual_seed(0)
    with torch.inference_mode():
        errors, _, _ = denoising_loss(training.network, batch, ids, directions, generator=generator, device=CPU)
    return float(errors.mean())


def test_the_denoiser_learns_and_goes_on_from_its_checkpoint(
    work: Path,
    autoencoder: AutoencoderTiny,
    tokenizer_folder: Path,
    toy_concepts: list[Concept],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(denoising, "BATCH", 4)
    monkeypatch.setattr(denoising, "NOTE_STEPS", 1)
    monkeypatch.setattr(denoising, "learning_rate", lambda step, fraction: 3e-4)
    first = started(work, autoencoder, tokenizer_folder, toy_concepts)
    LatentBatches(work, autoencoder, side=128, device=CPU).grow()
    before, saved = error_of(first), []
    first.run(minutes=0.45, seed=1, on_checkpoint=lambda: saved.append(first.step))
    assert saved == [first.step] and first.step >= 3
    assert error_of(first) < before
    again = started(work, autoencoder, tokenizer_folder, toy_concepts)
    assert again.step == first.step and again.seconds >= 27
    for one, other in ((first.network, again.network), (first.average, again.average)):
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    again.run(minutes=0.9, seed=1, on_checkpoint=lambda: saved.append(again.step))
    assert saved == [first.step, again.step] and again.step > first.step
    rows = list(csv.DictReader((work / "denoiser.csv").open(encoding="utf-8")))
    assert [int(row["step"]) for row in rows] == list(range(1, again.step + 1))
    assert np.isfinite(float(rows[-1]["places"])), "the decoded losses did not join"
    texts = zip(again.network.text_encoder.parameters(), first.network.text_encoder.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in texts), "the text encoder did not learn on"


def test_a_texture_starts_from_its_own_noise_and_the_photo_of_an_empty_prompt_stays(work: Path, autoencoder: AutoencoderTiny) -> None:
    batches = LatentBatches(work, autoencoder, side=128, device=CPU)
    while batches.grow():
        pass
    batch = batches.batch(40, generator=np.random.default_rng(2), unprompted=0.5, pictures=True)
    noise = denoising.start_noise(batch, generator=torch.Generator().manual_seed(0))
    assert batch.pictures is not None
    for i, recipe in enumerate(batch.recipes):
        if recipe is None:
            assert torch.equal(batch.target[i], batch.content[i])
        elif recipe.noise_seed >= 0:
            assert torch.equal(noise[i], seeded_noise(recipe.noise_seed, side=128)) and not batch.content[i].any()
    kinds = {"photo" if recipe is None else "texture" if recipe.noise_seed >= 0 else "look" for recipe in batch.recipes}
    assert kinds == {"photo", "texture", "look"}


def test_the_decoder_is_polished_and_the_encoder_stays(work: Path, autoencoder: AutoencoderTiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polishing, "BATCH", 2)
    monkeypatch.setattr(polishing, "CRITIC_FROM", 1)
    encoder = copy.deepcopy(autoencoder.encoder.state_dict())
    first = DecoderPolish(work, autoencoder, CPU)
    fresh = copy.deepcopy(first.decoder)
    first.run(minutes=0.2, seed=1)
    assert first.step >= 2
    assert any(not torch.equal(a, b) for a, b in zip(first.decoder.parameters(), fresh.parameters(), strict=True))
    assert all(torch.equal(value, encoder[name]) for name, value in autoencoder.encoder.state_dict().items())
    again = DecoderPolish(work, autoencoder, CPU)
    assert again.step == first.step and again.seconds >= 12
    for part in (attrgetter("decoder"), attrgetter("average"), attrgetter("critics.critics")):
        pairs = zip(part(first).parameters(), part(again).parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    again.run(minutes=0.4, seed=1)
    assert again.step > first.step


def test_critics_lose_nothing_once_real_and_made_are_a_margin_apart() -> None:
    ones = [torch.ones(2, 1, 4, 4), torch.ones(2, 1, 2, 2)]
    assert float(critic_loss(ones, [-each for each in ones])) == 0
    assert float(critic_loss([-each for each in ones], ones)) == 4
    scores = Critics([3, 5])([torch.zeros(1, 3, 8, 8), torch.zeros(1, 5, 4, 4)])
    assert [tuple(score.shape) for score in scores] == [(1, 1, 8, 8), (1, 1, 4, 4)]
