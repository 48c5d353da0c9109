"""Prompts that say their recipe: looks, colours and light in words."""

import numpy as np
from embedded.concepts import Concept
from embedded.palettes import COLOUR_NAMES, TONES
from embedded.prompts import PromptWriter, palette_words, woven
from embedded.recipes import Recipe


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


def test_one_concept_alone_is_asked_for_plainly_as_often_as_is_wished(toy_concepts: list[Concept]) -> None:
    number = next(n for n, concept in enumerate(toy_concepts) if len(concept.phrases) > 4)
    plain, more = toy_concepts[number].phrases[:2], {number: ["another word for it"]}
    generator = np.random.default_rng(4)
    for share, low, high in ((0.0, 0, 30), (0.5, 50, 85), (1.0, 100, 100)):
        writer = PromptWriter(toy_concepts, extra=more, plain=share)
        asked = [writer(Recipe(number), generator) for _ in range(100)]
        assert low <= sum(text in plain for text in asked) <= high
        assert any(words in writer(Recipe(number, tone=4), generator) for words in TONES[4].phrases), "light is still asked for"
