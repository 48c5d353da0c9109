"""What can be asked for by name, and what a recipe means as numbers, against formulas written another way."""

import itertools
import re

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from embedded.concepts import LEFT_OUT, NAMED, UNNAMED, WORDS, Concept, keyed_rows, ordinary_words, plain_name, tidy, written_phrases
from embedded.palettes import COLOUR_NAMES, COLOURS, TONES
from embedded.recipes import COLOURED, KIND_SHARES, MIXED, PAINTED, STYLE_WIDTH, TONED, EachInTurn, Recipe, RecipeBook
from embedded.style_teacher import StyleTable
from hypothesis import given
from hypothesis import strategies as st

NUMBERS = st.integers(-1, 2**31 - 1)


@pytest.fixture(scope="module")
def book(toy_concepts: list[Concept]) -> RecipeBook:
    return RecipeBook(toy_concepts)


def style_part(book: RecipeBook) -> npt.NDArray[np.float64]:
    """Codes of the styles [taught, STYLE_WIDTH]."""
    taught = [number for number, concept in enumerate(book.concepts) if concept.vector is not None]
    return book.style_codes[taught].astype(np.float64)


def test_no_phrase_belongs_to_two_concepts(real_concepts: list[Concept]) -> None:
    phrases = [phrase.lower() for concept in real_concepts for phrase in {text.lower() for text in concept.phrases}]
    assert len(phrases) == len(set(phrases)) and len(real_concepts) > 1000
    assert all(concept.phrases and all(phrase.strip() for phrase in concept.phrases) for concept in real_concepts)
    assert all((concept.drawn is None) != (concept.vector is None) for concept in real_concepts)


def test_every_key_of_the_word_files_is_a_concept(style_table: StyleTable, real_concepts: list[Concept]) -> None:
    keys = {concept.key for concept in real_concepts}
    assert len(keys) == len(real_concepts)
    left_out = {key for key in keyed_rows(style_table) if key.partition("/")[2] in LEFT_OUT}
    names = yaml.safe_load((WORDS / "stage_names.yaml").read_text(encoding="utf-8"))
    assert set(names) <= keys
    assert set(written_phrases()) <= keys | left_out
    assert {key for found in ordinary_words().values() for key in found} <= keys


def test_every_named_style_was_given_phrases_and_first_names_are_first(style_table: StyleTable, real_concepts: list[Concept]) -> None:
    by_key = {concept.key: concept for concept in real_concepts}
    assert set(by_key) >= set(written_phrases()) - {f"sdxl style/{name}" for name in LEFT_OUT}
    names = yaml.safe_load((WORDS / "stage_names.yaml").read_text(encoding="utf-8"))
    for key, texts in names.items():
        assert by_key[key].phrases[: len(texts)] == texts
    kinds = {row["kind"] for row in style_table.rows if row["kind"] in NAMED}
    assert kinds == set(NAMED)


def test_no_living_artist_is_a_name_to_ask_for(real_concepts: list[Concept]) -> None:
    texts = [phrase for concept in real_concepts for phrase in concept.phrases] + list(ordinary_words())
    texts = [text for text in texts if "winnie the pooh" not in text]  # his illustrator, E. H. Shepard, died in 1976
    living = re.compile(r"\b(adnate|ron[ -]?english|shepard|fairey)\b", re.IGNORECASE)
    assert [text for text in texts if living.search(text)] == []
    assert {f"sdxl style/{name}" for name in UNNAMED} <= {concept.key for concept in real_concepts}


def test_plain_names_are_what_a_person_types() -> None:
    wanted = {"MK Van Gogh": "van gogh", "sai-line art": "line art", "Pop Art 2": "pop art", "Fooocus Sharp": "sharp"}
    assert {name: plain_name(name) for name in wanted} == wanted
    assert tidy("Ink drawing of {prompt}. bold lines,, dark ,") == "ink drawing, bold lines, dark"


def test_a_named_style_can_be_asked_for_by_its_name_before_its_whole_prompt(style_table: StyleTable, real_concepts: list[Concept]) -> None:
    by_key, owner = {concept.key: concept for concept in real_concepts}, {text: each.key for each in real_concepts for text in each.phrases}
    asked_for = 0
    for key, number in keyed_rows(style_table).items():
        row = style_table.rows[number]
        if row["kind"] == "sdxl style" and row["name"] not in (*UNNAMED, *LEFT_OUT):
            name, asked = plain_name(row["name"]), tidy(row["prompt"])
            whole = asked if asked.startswith(name) else f"{name}, {asked}"
            asked_for += whole in by_key[key].phrases
            assert whole in by_key[key].phrases or owner[whole] != key
    assert asked_for > 200


@given(NUMBERS, NUMBERS, st.tuples(NUMBERS, NUMBERS), NUMBERS, NUMBERS)
def test_a_recipe_comes_back_from_its_row(first: int, second: int, colours: tuple[int, int], tone: int, seed: int) -> None:
    recipe = Recipe(first, second, colours, tone, seed)
    assert len(recipe.row()) == 6
    assert Recipe.from_row(np.array(recipe.row(), dtype=np.int64)) == recipe


def test_style_codes_have_unit_variance_and_no_correlation(book: RecipeBook) -> None:
    codes = style_part(book)
    np.testing.assert_allclose(codes.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(codes.T, bias=True), np.eye(STYLE_WIDTH), atol=1e-3)


def test_distances_of_style_codes_are_those_along_the_main_axes_of_the_vectors(book: RecipeBook) -> None:
    """By the eigenvectors of the covariance, where the code takes a singular value decomposition."""
    vectors = np.stack([concept.vector for concept in book.concepts if concept.vector is not None]).astype(np.float64)
    values, axes = np.linalg.eigh(np.cov(vectors.T, bias=True))
    codes = style_part(book)
    for i, j in itertools.islice(itertools.combinations(range(len(vectors)), 2), 0, None, 97):
        along = (vectors[i] - vectors[j]) @ axes[:, -STYLE_WIDTH:]
        wanted = np.sqrt((along**2 / values[-STYLE_WIDTH:]).sum())
        assert np.linalg.norm(codes[i] - codes[j]) == pytest.approx(wanted, rel=2e-3)


def test_a_mixture_means_the_mean_of_its_concepts_in_either_order(book: RecipeBook) -> None:
    look, style = 3, len(book.concepts) - 1
    one, other = book.meaning(Recipe(look)), book.meaning(Recipe(style))
    np.testing.assert_allclose(book.meaning(Recipe(look, second=style)), (one + other) / 2, atol=1e-6)
    assert np.array_equal(book.meaning(Recipe(look, second=style)), book.meaning(Recipe(style, second=look)))
    assert one.shape == (book.width,) and one.dtype == np.float32


def test_a_palette_means_the_same_in_either_order_and_unlike_any_other(book: RecipeBook) -> None:
    bright = [sum(COLOURS[name]) for name in COLOUR_NAMES]
    every = itertools.combinations(range(len(COLOUR_NAMES)), 2)
    pairs = [(one, other) for one, other in every if bright[one] != bright[other]]  # equally bright: neither is the darker one
    seen: dict[bytes, tuple[int, int]] = {}
    for one, other in [*pairs, *((number, -1) for number in range(len(COLOUR_NAMES)))]:
        meaning = book.meaning(Recipe(0, colours=(one, other)))
        if other >= 0:
            assert np.array_equal(meaning, book.meaning(Recipe(0, colours=(other, one))))
        assert seen.setdefault(meaning.tobytes(), (one, other)) == (one, other)
    assert len(seen) == len(pairs) + len(COLOUR_NAMES)


def test_only_the_part_that_a_recipe_names_differs_from_its_plain_concept(book: RecipeBook) -> None:
    plain = book.meaning(Recipe(0))
    toned = book.meaning(Recipe(0, tone=1)) - plain
    coloured = book.meaning(Recipe(0, colours=(2, 5))) - plain
    assert not plain[-10:].any() and not toned[:-3].any() and not coloured[:-10].any() and not coloured[-3:].any()
    change = TONES[1]
    np.testing.assert_allclose(np.exp(toned[-3:] / 4), [change.gamma, change.saturation, change.contrast], rtol=1e-5)
    assert np.array_equal(book.meaning(Recipe(0, noise_seed=7)), plain)


def test_all_looks_and_styles_mean_different_things(book: RecipeBook) -> None:
    codes = np.stack([book.concept_code(number) for number in range(len(book.concepts))])
    distances = np.linalg.norm(codes[:, None] - codes[None], axis=2) + 1e9 * np.eye(len(codes))
    assert distances.min() > 2


def test_recipes_repeat_by_seed_and_come_in_their_shares(book: RecipeBook) -> None:
    generator, again = np.random.default_rng(3), np.random.default_rng(3)
    recipes = [book.drawn(generator) for _ in range(4000)]
    assert recipes[:50] == [book.drawn(again) for _ in range(50)]
    shares = {
        MIXED: np.mean([recipe.second >= 0 for recipe in recipes]),
        COLOURED: np.mean([recipe.colours[0] >= 0 for recipe in recipes]),
        TONED: np.mean([recipe.tone >= 0 for recipe in recipes]),
        PAINTED: np.mean([recipe.noise_seed >= 0 for recipe in recipes]),
    }
    assert all(abs(found - wanted) < 0.025 for wanted, found in shares.items())
    looks = np.mean([book.concepts[recipe.first].kind == "look" for recipe in recipes])
    assert abs(looks - KIND_SHARES["look"] / (KIND_SHARES["look"] + KIND_SHARES["named"])) < 0.04
    assert all(recipe.colours[0] != recipe.colours[1] for recipe in recipes if recipe.colours[0] >= 0)


def test_every_concept_but_tags_is_met_once_a_round_in_an_order_of_its_own(few_concepts: list[Concept]) -> None:
    many = [*few_concepts, *[Concept(f"painting/{n}", [str(n)], vector=np.ones(100, np.float32)) for n in range(30)]]
    book, generator = EachInTurn(many), np.random.default_rng(1)
    rounds = [[book.drawn(generator) for _ in range(len(many) - 1)] for _ in range(2)]
    for recipes in rounds:
        assert sorted(recipe.first for recipe in recipes) == [n for n in range(len(many)) if n != 3]
        assert all(recipe.row()[1:] == [-1, -1, -1, -1, -1] for recipe in recipes), "only one thing is asked for, on a photo"
    assert rounds[0] != rounds[1]


def test_a_share_of_the_recipes_comes_from_another_book(toy_concepts: list[Concept]) -> None:
    concepts = [*toy_concepts, Concept("tags/oil", ["oil"], vector=toy_concepts[-1].vector)]
    book, generator = EachInTurn(concepts, others=RecipeBook(concepts), share=0.3), np.random.default_rng(1)
    drawn = [book.drawn(generator) for _ in range(4000)]
    strange = np.mean([recipe.row()[1:] != [-1, -1, -1, -1, -1] for recipe in drawn])
    assert strange == pytest.approx(0.3 * (MIXED + COLOURED + TONED + PAINTED), abs=0.025)
    assert {recipe.first for recipe in drawn} == set(range(len(concepts))), "tags come from the other book"
