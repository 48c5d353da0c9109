"""Examples for the text encoder: what each text stands for, tables of them on the device, and writing them by several processes."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from embedded import text_examples as module
from embedded.concepts import Concept, ordinary_words
from embedded.free_texts import DIRECTIONS, NEIGHBOURS, FreeTexts
from embedded.recipes import RecipeBook
from embedded.text import FULL_LENGTH, ExampleTable
from embedded.text_examples import Examples, ExampleWriter, words_by_concept, written_examples
from embedded.tokenizer import MAX_TOKENS, token_ids
from transformers import CLIPTokenizer

CPU = torch.device("cpu")
LONG = "neon " * 60


def equal(one: Examples, other: Examples) -> bool:
    return all(np.array_equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(Examples))


@pytest.fixture(scope="module")
def book(toy_concepts: list[Concept]) -> RecipeBook:
    return RecipeBook(toy_concepts)


@pytest.fixture(scope="module")
def free() -> FreeTexts:
    generator = torch.Generator().manual_seed(1)
    embeddings = torch.nn.functional.normalize(torch.randn(3, DIRECTIONS, generator=generator), dim=1).half()
    neighbours = torch.tensor([[0, 1, 2, 3], [4, 90, 100, 2], [1, 2, 3, 4]]).short()
    return FreeTexts(["neon", "pencil sketch", LONG], embeddings, neighbours, torch.tensor([[0.5, 0.25, 0.125, 0.125]] * 3).half())


@pytest.fixture(scope="module")
def writer(toy_concepts: list[Concept], book: RecipeBook, free: FreeTexts, tokenizer: CLIPTokenizer) -> ExampleWriter:
    return ExampleWriter(toy_concepts, book, free, tokenizer)


@pytest.fixture(scope="module")
def examples(writer: ExampleWriter) -> Examples:
    return writer.written(400, [3, 0])


@pytest.fixture(scope="module")
def table(examples: Examples, book: RecipeBook, free: FreeTexts, tokenizer: CLIPTokenizer) -> ExampleTable:
    return ExampleTable(examples, book, free, end=tokenizer.eos_token_id, device=CPU)


def only(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    for name in ("RECIPES", "ORDINARY", "PHRASES"):
        monkeypatch.setattr(module, name, float(name == kind))


def text_of(tokenizer: CLIPTokenizer, ids: np.ndarray) -> str:  # type: ignore[type-arg]
    return str(tokenizer.decode(ids.tolist(), skip_special_tokens=True)).replace(" ", "")


def test_ordinary_words_belong_to_the_look_they_fit_best(toy_concepts: list[Concept]) -> None:
    found, known = words_by_concept(toy_concepts), ordinary_words()
    keys = {concept.key: number for number, concept in enumerate(toy_concepts)}
    assert sum(len(texts) for texts in found.values()) == sum(best[0] in keys for best in known.values()) > 100
    for number, texts in found.items():
        assert all(known[text][0] == toy_concepts[number].key for text in texts)


def test_the_same_seed_writes_the_same_and_every_share_is_a_whole(writer: ExampleWriter, examples: Examples, book: RecipeBook) -> None:
    assert equal(examples, writer.written(400, [3, 0])) and not equal(examples, writer.written(400, [3, 1]))
    shapes = {field.name: (getattr(examples, field.name).shape, getattr(examples, field.name).dtype) for field in fields(Examples)}
    assert shapes == {
        "ids": ((400, MAX_TOKENS), np.int16),
        "concepts": ((400, NEIGHBOURS), np.int16),
        "shares": ((400, NEIGHBOURS), np.float16),
        "rest": ((400, book.width - len(book.concept_code(0))), np.float16),
        "sentences": ((400,), np.int32),
    }
    np.testing.assert_allclose(examples.shares.sum(axis=1, dtype=np.float64), 1, atol=1e-3)
    assert abs((examples.sentences >= 0).mean() - (1 - module.RECIPES - module.ORDINARY - module.PHRASES)) < 0.08


def test_a_recipe_in_words_keeps_its_meaning(writer: ExampleWriter, book: RecipeBook, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "RECIPES")
    written: list[object] = []
    drawn = book.drawn
    monkeypatch.setattr(book, "drawn", lambda generator: (written.append(drawn(generator)), written[-1])[1])
    made = writer.written(80, [5])
    assert len(written) == 80 and (made.sentences == -1).all()
    for concepts, shares, rest, recipe in zip(made.concepts, made.shares, made.rest, written, strict=True):
        codes = sum(float(share) * book.concept_code(int(number)) for number, share in zip(concepts, shares, strict=True))
        wanted = book.meaning(recipe)  # type: ignore[arg-type]
        np.testing.assert_allclose(np.concatenate([codes, rest]), wanted, atol=4e-3)  # float16
    assert {recipe.second >= 0 for recipe in written} == {True, False}  # type: ignore[attr-defined]


def test_a_bare_phrase_is_that_of_its_concept(
    writer: ExampleWriter, toy_concepts: list[Concept], tokenizer: CLIPTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "PHRASES")
    made = writer.written(60, [6])
    for ids, concepts, shares in zip(made.ids, made.concepts, made.shares, strict=True):
        assert shares.tolist() == [1, 0, 0, 0]
        phrases = toy_concepts[int(concepts[0])].phrases
        assert ids.tolist() in token_ids(tokenizer, phrases)
    assert len(set(made.concepts[:, 0].tolist())) > 30 and not made.rest.any()


def test_an_ordinary_word_asks_for_its_one_or_two_looks(
    writer: ExampleWriter, toy_concepts: list[Concept], tokenizer: CLIPTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "ORDINARY")
    made = writer.written(40, [7])
    plain = {word.replace(" ", ""): keys for word, keys in ordinary_words().items()}
    seen = 0
    for ids, concepts, shares in zip(made.ids, made.concepts, made.shares, strict=True):
        keys = plain.get(text_of(tokenizer, ids))
        asked = [toy_concepts[int(number)].key for number, share in zip(concepts, shares, strict=True) if share > 0]
        assert shares.tolist() in ([1, 0, 0, 0], [0.5, 0.5, 0, 0])
        if keys is not None:
            seen += 1
            assert asked == [key for key in keys if key in {concept.key for concept in toy_concepts}]
    assert seen > 5


def test_a_free_text_means_the_blend_of_its_neighbours(
    writer: ExampleWriter, free: FreeTexts, tokenizer: CLIPTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "none")
    made = writer.written(30, [8])
    assert set(made.sentences.tolist()) == {0, 1, 2} and not made.rest.any()
    for ids, row, concepts, shares in zip(made.ids, made.sentences, made.concepts, made.shares, strict=True):
        assert free.texts[row].replace(" ", "")[:20] in text_of(tokenizer, ids)
        assert concepts.tolist() == free.neighbours[row].tolist() and shares.tolist() == free.shares[row].tolist()


def test_a_text_longer_than_the_places_still_ends(tokenizer: CLIPTokenizer) -> None:
    (ids,) = token_ids(tokenizer, [LONG])
    assert len(ids) == MAX_TOKENS and ids[-1] == tokenizer.eos_token_id and ids.count(tokenizer.eos_token_id) == 1


def test_parts_written_with_small_tokenizer_batches_are_the_same(
    writer: ExampleWriter, examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOKENIZED_AT_ONCE", 7)
    assert equal(writer.written(400, [3, 0]), examples)


def test_sorting_by_length_keeps_every_example_whole(examples: Examples, tokenizer: CLIPTokenizer) -> None:
    ordered = examples.sorted_by_length(tokenizer.eos_token_id)
    lengths = [row.index(tokenizer.eos_token_id) for row in ordered.ids.tolist()]
    assert lengths == sorted(lengths) and lengths[0] < lengths[-1]

    def rows(some: Examples) -> list[bytes]:
        return sorted(b"".join(getattr(some, field.name)[i].tobytes() for field in fields(Examples)) for i in range(len(some.ids)))

    assert rows(ordered) == rows(examples)


@pytest.mark.parametrize("count", [1, 10, 24])
def test_one_process_writes_its_jobs_one_after_the_other(writer: ExampleWriter, count: int) -> None:
    made = written_examples(writer, count=count, processes=1, seed=9)
    size = -(-count // 4)
    jobs = -(-count // size)
    assert count <= len(made.ids) < count + size
    assert equal(made, Examples.joined([writer.written(size, [9, number]) for number in range(jobs)]))


def test_two_processes_write_what_one_would_for_the_same_jobs(writer: ExampleWriter) -> None:
    made = written_examples(writer, count=16, processes=2, seed=9)
    assert equal(made, Examples.joined([writer.written(2, [9, number]) for number in range(8)]))


def test_batches_hold_texts_of_like_length_with_every_end_mark_and_now_and_then_all_places(
    table: ExampleTable, book: RecipeBook, tokenizer: CLIPTokenizer
) -> None:
    batches, widths = table.batches(24, np.random.default_rng(4)), []
    for _ in range(80):
        ids, meanings, asked, embeddings = next(batches)
        assert meanings.shape == (24, book.width) and asked.shape == (24, len(book.concepts)) and embeddings.shape == (24, DIRECTIONS)
        assert ids.dtype == torch.int64 and {value.dtype for value in (meanings, asked, embeddings)} == {torch.float32}
        assert bool((ids[:, 0] == tokenizer.bos_token_id).all()) and bool((ids[:, -1] == tokenizer.eos_token_id).all())
        widths.append(ids.shape[1])
        if ids.shape[1] < MAX_TOKENS:  # some text needs all places but the two that the padding may show in
            ends = (ids == tokenizer.eos_token_id).long().argmax(dim=1)
            assert int(ends.max()) == ids.shape[1] - 3
    assert len(set(widths)) > 4
    assert np.mean([width == MAX_TOKENS for width in widths]) > FULL_LENGTH / 3


def test_a_batch_means_the_shares_times_the_codes_of_its_concepts(
    table: ExampleTable, examples: Examples, book: RecipeBook, free: FreeTexts
) -> None:
    codes = np.stack([book.concept_code(number) for number in range(len(book.concepts))])
    by_ids = {row.tobytes(): number for number, row in enumerate(examples.ids)}
    alike = len(examples.ids) - len(by_ids)
    assert alike < 120
    ids, meanings, asked, embeddings = (value.numpy() for value in next(table.batches(300, np.random.default_rng(1))))
    checked = 0
    texts = [examples.ids[:, : ids.shape[1]] == row for row in ids]
    for same, meaning, one, embedding in zip(texts, meanings, asked, embeddings, strict=True):
        rows = np.flatnonzero(same.all(axis=1))
        if len(rows) > 1:  # the same text may stand for different recipes
            continue
        row, checked = rows[0], checked + 1
        shares = np.zeros(len(codes))
        for number, share in zip(examples.concepts[row], examples.shares[row], strict=True):
            shares[number] += share
        np.testing.assert_allclose(one, shares, atol=1e-6)
        np.testing.assert_allclose(meaning, np.concatenate([shares @ codes, examples.rest[row]]), atol=1e-4)
        sentence = int(examples.sentences[row])
        wanted = free.embeddings[sentence].float().numpy() if sentence >= 0 else np.zeros(DIRECTIONS)
        assert np.array_equal(embedding, wanted)
    assert checked > 100


def test_a_table_smaller_than_a_batch_gives_what_it_has(
    writer: ExampleWriter, book: RecipeBook, free: FreeTexts, tokenizer: CLIPTokenizer
) -> None:
    small = ExampleTable(writer.written(5, [1]), book, free, end=tokenizer.eos_token_id, device=CPU)
    batches = small.batches(8, np.random.default_rng(2))
    assert {len(next(batches)[0]) for _ in range(30)} <= {5, 8}
