"""Training texts of the text encoder: prompts that say their recipe, batches that keep every end mark, meanings that fit."""

from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from embedded import text as text_training
from embedded.concepts import Concept
from embedded.meaning import WIDTH
from embedded.palettes import COLOUR_NAMES, TONES
from embedded.prompts import PromptWriter, palette_words, woven
from embedded.recipes import Recipe, RecipeBook
from embedded.text import FreeTexts, TextExamples, fragments, free_texts, fresh_text_network, give_words_meaning, text_loss
from embedded.tokenizer import MAX_TOKENS, token_ids
from transformers import CLIPTokenizer

LONG = "neon " * 60


class WordCounts:
    """Texts by which words they hold: as a sentence model does, likest texts lie nearest."""

    def words(self) -> list[str]:
        return ["neon", "pencil", "sketch", "dancer"]

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        counts = torch.zeros(len(texts), WIDTH)
        for row, text in zip(counts, texts, strict=True):
            for word in text.lower().split():
                row[crc32(word.encode()) % WIDTH] += 1
        return F.normalize(counts, dim=1)


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder: Path) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(tokenizer_folder)


@pytest.fixture(scope="module")
def book(toy_concepts: list[Concept]) -> RecipeBook:
    return RecipeBook(toy_concepts)


@pytest.fixture(scope="module")
def free(toy_concepts: list[Concept]) -> FreeTexts:
    texts = ["neon", "pencil sketch", LONG]
    neighbours = torch.tensor([[0, 1, 2, 3]] * len(texts))
    return FreeTexts(texts, WordCounts()(texts), neighbours, torch.full((len(texts), 4), 0.25))


@pytest.fixture(scope="module")
def examples(toy_concepts: list[Concept], book: RecipeBook, free: FreeTexts) -> TextExamples:
    return TextExamples(toy_concepts, book, free)


def test_a_prompt_names_its_looks_its_colours_and_its_light(toy_concepts: list[Concept]) -> None:
    writer, generator = PromptWriter(toy_concepts, extra={2: ["another word for it"]}), np.random.default_rng(1)
    extra = 0
    for _ in range(60):
        phrases = [toy_concepts[number].phrases for number in (2, 5)]
        plain = writer(Recipe(2), generator)
        extra += plain == "another word for it"
        assert plain == "another word for it" or any(phrase in plain for phrase in phrases[0])
        both = writer(Recipe(2, second=5), generator)
        assert all(any(phrase in both for phrase in group) for group in phrases)
        toned = writer(Recipe(2, tone=4), generator)
        assert any(words in toned for words in TONES[4].phrases) and any(phrase in toned for phrase in phrases[0])
        coloured = writer(Recipe(2, colours=(3, 9)), generator)
        assert COLOUR_NAMES[3] in coloured and COLOUR_NAMES[9] in coloured and any(phrase in coloured for phrase in phrases[0])
    assert 5 < extra < 35


def test_two_colours_are_named_in_either_order_and_one_alone() -> None:
    generator = np.random.default_rng(2)
    first = [palette_words((3, 9), generator).find(COLOUR_NAMES[3]) < 3 for _ in range(40)]
    assert any(first) and not all(first)
    assert all(COLOUR_NAMES[7] in palette_words((7, -1), generator) for _ in range(20))


def test_a_long_phrase_stands_alone_and_a_short_one_is_kept_whole() -> None:
    generator = np.random.default_rng(3)
    phrase = "one two three four five six seven eight"
    assert woven(phrase, generator) == phrase
    assert all("neon edges" in woven("neon edges", generator) for _ in range(40))


def test_fragments_are_runs_of_words_of_the_phrases() -> None:
    phrases = ["thick oil paint on canvas", "neon, glowing edges"]
    made = fragments(phrases, count=200, seed=5)
    assert made == fragments(phrases, count=200, seed=5) and len(made) == 200
    split = [phrase.replace(",", " ").split() for phrase in phrases]
    runs = {" ".join(words[i:j]) for words in split for i in range(len(words)) for j in range(i + 1, min(i + 6, len(words)) + 1)}
    assert set(made) <= runs | {f"{one} {other}" for one in runs for other in runs}
    assert set(made) & runs and set(made) - runs


def test_ids_cut_to_length_keep_start_and_end_mark(
    examples: TextExamples, tokenizer: CLIPTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_training, "BATCH", 24)
    batches = examples.batches(tokenizer, np.random.default_rng(4))
    widths = set()
    for _ in range(12):
        ids, meanings, embeddings = next(batches)
        assert ids.shape[0] == 24 and ids.shape[1] <= MAX_TOKENS
        assert meanings.shape == (24, examples.book.width) and embeddings.shape == (24, WIDTH)
        assert bool((ids[:, 0] == tokenizer.bos_token_id).all()) and bool((ids[:, -1] == tokenizer.eos_token_id).all())
        widths.add(ids.shape[1])
        for row in ids.tolist():
            full = tokenizer.decode(row, skip_special_tokens=True)
            if len(row) < MAX_TOKENS:
                assert token_ids(tokenizer, [full])[0][: len(row)] == row
    assert len(widths) > 2


def test_a_text_longer_than_the_places_still_ends(tokenizer: CLIPTokenizer) -> None:
    (ids,) = token_ids(tokenizer, [LONG])
    assert len(ids) == MAX_TOKENS and ids[-1] == tokenizer.eos_token_id and ids.count(tokenizer.eos_token_id) == 1


def test_a_free_text_means_the_blend_of_its_neighbours(examples: TextExamples, free: FreeTexts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_training, "RECIPES", 0.0)
    monkeypatch.setattr(text_training, "ORDINARY", 0.0)
    texts, meanings, embeddings = examples.batch(16, np.random.default_rng(5))
    blend = np.mean([examples.book.concept_code(number) for number in range(4)], axis=0)
    for text, meaning, embedding in zip(texts, meanings, embeddings, strict=True):
        place = max(number for number, known in enumerate(free.texts) if known in text)
        np.testing.assert_allclose(meaning[: len(blend)].numpy(), blend, atol=1e-6)
        assert not meaning[len(blend) :].any()
        assert any(torch.equal(embedding, free.embeddings[number]) for number in range(place + 1))


def test_the_nearest_look_of_its_own_phrase_is_the_look(
    tmp_path: Path, toy_concepts: list[Concept], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_training, "FRAGMENTS", 50)
    teacher = WordCounts()
    found = free_texts(tmp_path, toy_concepts[:20], teacher)  # type: ignore[arg-type]
    assert len(found.texts) == len(teacher.words()) + 50
    torch.testing.assert_close(found.shares.sum(dim=1), torch.ones(len(found.texts)))
    assert bool((found.shares.diff(dim=1) <= 1e-6).all())
    bank = {number: teacher(concept.phrases) for number, concept in enumerate(toy_concepts[:20])}
    for place in range(0, len(found.texts), 7):
        scores = [float((bank[number] @ found.embeddings[place]).max()) for number in range(20)]
        assert scores[int(found.neighbours[place, 0])] == pytest.approx(max(scores), abs=2e-3)


def test_whole_words_begin_with_the_likeness_of_their_sentences(tokenizer: CLIPTokenizer, book: RecipeBook) -> None:
    known = tokenizer.get_vocab()
    texts = [token.removesuffix("</w>") for token in known if token.endswith("</w>")]
    generator = torch.Generator().manual_seed(1)
    embeddings = F.normalize(torch.randn(len(texts), 100, generator=generator) @ torch.randn(100, WIDTH, generator=generator), dim=1)
    encoder = fresh_text_network(tokenizer, width=book.width).encoder
    give_words_meaning(encoder, tokenizer, FreeTexts(texts, embeddings, torch.zeros(0), torch.zeros(0)))
    rows = encoder.get_input_embeddings().weight.detach()[[known[f"{text}</w>"] for text in texts]]
    centred = embeddings - embeddings.mean(dim=0)
    likeness = [F.cosine_similarity(each[:, None], each[None], dim=2) for each in (rows, centred)]
    torch.testing.assert_close(likeness[0], likeness[1], atol=1e-3, rtol=0)


def test_a_few_steps_lower_the_loss_and_unknown_sentences_do_not_count(
    examples: TextExamples, tokenizer: CLIPTokenizer, book: RecipeBook
) -> None:
    torch.manual_seed(0)
    network = fresh_text_network(tokenizer, width=book.width)
    texts, meanings, embeddings = examples.batch(16, np.random.default_rng(6))
    ids = torch.tensor(token_ids(tokenizer, texts))
    assert float(text_loss(network, ids, meanings, torch.zeros_like(embeddings))[1].detach()) == 0
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    losses = []
    for _ in range(10):
        loss, sentence = text_loss(network, ids, meanings, embeddings)
        losses.append(float((loss + sentence).detach()))
        optimizer.zero_grad()
        (loss + sentence).backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]
