"""Training of the text encoder: hidden words, the losses, words that begin with their meaning, and runs that are taken up again."""

import copy
import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from embedded import text as module
from embedded.concepts import Concept
from embedded.free_texts import DIRECTIONS, FreeTexts
from embedded.recipes import RecipeBook
from embedded.text import (
    ExampleTable,
    TextNetwork,
    TextTraining,
    fresh_text_network,
    give_words_meaning,
    hidden_words,
    load_text_network,
    text_loss,
)
from embedded.text_examples import ExampleWriter
from embedded.tokenizer import MAX_TOKENS
from transformers import CLIPTokenizer

CPU = torch.device("cpu")
START, END = 90, 91


@pytest.fixture(scope="module")
def book(toy_concepts: list[Concept]) -> RecipeBook:
    return RecipeBook(toy_concepts)


@pytest.fixture(scope="module")
def free() -> FreeTexts:
    generator = torch.Generator().manual_seed(1)
    texts = ["neon", "pencil", "dancer", "pencil sketch"]
    embeddings = F.normalize(torch.randn(4, DIRECTIONS, generator=generator), dim=1).half()
    return FreeTexts(texts, embeddings, torch.tensor([[0, 1, 2, 3]] * 4).short(), torch.full((4, 4), 0.25).half())


@pytest.fixture(scope="module")
def table(toy_concepts: list[Concept], book: RecipeBook, free: FreeTexts, tokenizer: CLIPTokenizer) -> ExampleTable:
    examples = ExampleWriter(toy_concepts, book, free, tokenizer).written(40, [1])
    return ExampleTable(examples, book, free, end=tokenizer.eos_token_id, device=CPU)


@pytest.fixture
def network(tokenizer: CLIPTokenizer, book: RecipeBook) -> TextNetwork:
    torch.manual_seed(0)
    return fresh_text_network(tokenizer, width=book.width, concepts=len(book.concepts))


@pytest.fixture
def started(
    tmp_path: Path, tokenizer_folder: Path, toy_concepts: list[Concept], book: RecipeBook, free: FreeTexts
) -> Callable[[], TextTraining]:
    """Begins the run in a work folder, or takes it up again."""
    shutil.copytree(tokenizer_folder, tmp_path / "tokenizer")
    return lambda: TextTraining(tmp_path, toy_concepts, book, free, start=None, device=CPU, seed=1)


def test_all_words_of_a_longer_text_can_be_hidden_and_short_texts_stay() -> None:
    ids = torch.tensor([[START, 1, 2, 3, 4, END, END], [START, 1, 2, 3, END, END, END], [START, END, END, END, END, END, END]])
    assert torch.equal(hidden_words(ids, start=START, end=END, share=0.0), ids)
    made = hidden_words(ids, start=START, end=END, share=1.1)
    assert made.tolist() == [[START] + [END] * 6, ids[1].tolist(), ids[2].tolist()]


def test_what_is_left_of_a_text_moves_up_in_its_order_and_the_end_fills_the_places() -> None:
    torch.manual_seed(3)
    ids = torch.full((500, MAX_TOKENS), END)
    ids[:, 0] = START
    ids[:, 1:25] = torch.arange(1, 25)
    made = hidden_words(ids, start=START, end=END, share=0.25)
    hidden, missing = [], np.zeros(25)
    for row in made.tolist():
        words = [token for token in row if token not in (START, END)]
        assert words == sorted(words) and row == [START, *words, *[END] * (MAX_TOKENS - 1 - len(words))]
        hidden.append(24 - len(words))
        missing[sorted(set(range(1, 25)) - set(words))] += 1
    assert np.mean(hidden) / 24 == pytest.approx(0.25, abs=0.02)
    assert np.std(hidden) == pytest.approx(np.sqrt(24 * 0.25 * 0.75), abs=0.3), "words are not hidden one by one"
    np.testing.assert_allclose(missing[1:] / 500, 0.25, atol=0.08)  # four standard deviations


def test_the_loss_adds_square_errors_cross_entropy_and_cosines_of_known_sentences() -> None:
    generator = torch.Generator().manual_seed(2)
    meaning, scores, wanted, asked = (torch.randn(4, 5, generator=generator) for _ in range(4))
    asked = asked.softmax(dim=1)
    embedding, known = (F.normalize(torch.randn(4, 6, generator=generator), dim=1) for _ in range(2))
    known[1] = 0
    found = text_loss(lambda ids: (meaning, scores, embedding), torch.zeros(4, 3), wanted, asked, known)  # type: ignore[arg-type]
    likely = np.exp(scores.double().numpy())
    entropy = -(asked.numpy() * np.log(likely / likely.sum(axis=1, keepdims=True))).sum(axis=1).mean()
    cosines = [float(embedding[row] @ known[row]) for row in (0, 2, 3)]
    expected = (((meaning - wanted) ** 2).mean().item(), entropy, 1 - np.mean(cosines))
    assert [float(part) for part in found] == pytest.approx(expected, rel=1e-5)


def test_unknown_sentences_do_not_count(network: TextNetwork, table: ExampleTable) -> None:
    ids, meanings, asked, embeddings = next(table.batches(6, np.random.default_rng(1)))
    assert float(text_loss(network, ids, meanings, asked, torch.zeros_like(embeddings))[2].detach()) == 0


def test_a_text_is_read_where_it_has_ended(network: TextNetwork, tokenizer: CLIPTokenizer) -> None:
    network.eval()
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    ids = torch.tensor([[start, 70, 71, end, end, end]])
    with torch.inference_mode():
        meaning, choice, embedding = network(ids)
        states = network.encoder(ids).last_hidden_state[0]
        torch.testing.assert_close(meaning[0], network.meaning(states[3:].mean(dim=0)), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(choice[0], network.choice(states[3:].mean(dim=0)), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(embedding[0], F.normalize(network.embedding(states[3:].mean(dim=0)), dim=0), atol=1e-5, rtol=1e-4)
    assert float(embedding.norm()) == pytest.approx(1, abs=1e-5)


def test_whole_words_begin_with_the_likeness_of_their_sentences(tokenizer: CLIPTokenizer, network: TextNetwork, free: FreeTexts) -> None:
    known = tokenizer.get_vocab()
    texts = [token.removesuffix("</w>") for token in known if token.endswith("</w>")]
    generator = torch.Generator().manual_seed(1)
    embeddings = F.normalize(torch.randn(len(texts), 100, generator=generator) @ torch.randn(100, DIRECTIONS, generator=generator), dim=1)
    more = replace(free, texts=[*texts, "no whole word"], embeddings=torch.cat([embeddings, torch.ones(1, DIRECTIONS)]))
    before = network.encoder.get_input_embeddings().weight.detach().clone()
    give_words_meaning(network.encoder, tokenizer, more)
    weights = network.encoder.get_input_embeddings().weight.detach()
    rows = [known[f"{text}</w>"] for text in texts]
    centred = embeddings - embeddings.mean(dim=0)
    likeness = [F.cosine_similarity(each[:, None], each[None], dim=2) for each in (weights[rows, :DIRECTIONS], centred)]
    torch.testing.assert_close(likeness[0], likeness[1], atol=1e-3, rtol=0)
    assert weights[rows, :DIRECTIONS].std().item() == pytest.approx(module.WORD_SPREAD, rel=0.01)
    others = sorted(set(range(len(tokenizer))) - set(rows))
    assert torch.equal(weights[others], before[others]) and torch.equal(weights[:, DIRECTIONS:], before[:, DIRECTIONS:])


def test_a_few_steps_lower_the_loss(network: TextNetwork, table: ExampleTable) -> None:
    batch = next(table.batches(16, np.random.default_rng(6)))
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    losses = []
    for _ in range(10):
        parts = text_loss(network, *batch)
        losses.append([float(part.detach()) for part in parts])
        optimizer.zero_grad()
        sum(parts).backward()
        optimizer.step()
    assert sum(losses[-1]) < 0.8 * sum(losses[0]) and all(last < first for last, first in zip(losses[-1], losses[0], strict=True))


@pytest.mark.usefixtures("counted_time")
def test_a_run_trains_and_goes_on_from_its_checkpoint(
    started: Callable[[], TextTraining], table: ExampleTable, book: RecipeBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NOTE_STEPS", 1)
    first = started()
    begun = copy.deepcopy(first.network)
    first.run(table, batch=4, minutes=0.3)
    assert first.step >= 3 and any(not torch.equal(a, b) for a, b in zip(begun.parameters(), first.network.parameters(), strict=True))
    again = started()
    assert again.step == first.step and again.seconds >= 17
    loaded = load_text_network(first.path, first.tokenizer, width=book.width, concepts=len(book.concepts))
    assert not loaded.training and not any(parameter.requires_grad for parameter in loaded.parameters())
    for other in (again.network, loaded):
        assert all(torch.equal(a, b) for a, b in zip(first.network.parameters(), other.parameters(), strict=True))
    again.run(table, batch=4, minutes=0.5)
    assert again.step > first.step
    rows = list(csv.DictReader((first.work / "text.csv").open(encoding="utf-8")))
    assert [int(row["step"]) for row in rows] == list(range(1, again.step + 1))
    assert all(np.isfinite(float(row[name])) for row in rows for name in ("meaning", "choice", "sentence"))
    assert not list(first.work.glob("*.partial"))


def test_equal_batches_after_a_checkpoint_give_equal_weights(started: Callable[[], TextTraining], table: ExampleTable) -> None:
    first = started()
    batch = next(table.batches(6, np.random.default_rng(2)))

    def step(training: TextTraining) -> None:
        loss = sum(text_loss(training.network, *batch))
        training.optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        training.optimizer.step()

    step(first)
    first.step = 1
    first.save(12.0)
    again = started()
    assert (again.step, again.seconds) == (1, 12.0)
    for each in (first, again):
        step(each)
    assert all(torch.equal(a, b) for a, b in zip(first.network.parameters(), again.network.parameters(), strict=True))
