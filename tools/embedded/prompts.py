"""Prompts for training: what a person might type for a recipe, in many shapes, and the texts that the tokenizer should know."""

from collections.abc import Sequence

import numpy as np

from .concepts import Concept
from .palettes import COLOUR_NAMES, PALETTE_TEMPLATES, SINGLE_TEMPLATES, TONES
from .recipes import Recipe

TEMPLATES = (
    "{look}", "{look}", "{look}", "{look} style", "as {look}", "a {look} of a {subject}", "{subject}, {look}", "{look}, {subject}",
    "a {subject} in {look} style", "{look}, {word}", "{word} {look}", "{look}, {word}, {other}", "a {word} {subject}, {look}",
    "a picture of a {subject} as {look}, {word}", "make it look like {look}", "turn everything into {look}", "like {look}",
    "looks like {look}", "{look} look", "{look} effect", "i want {look}", "{look} for the stage",
)  # fmt: skip
MIXTURES = ("{a} and {b}", "{a} mixed with {b}", "{a} + {b}", "{a}, {b}", "half {a}, half {b}", "{a} meets {b}", "a blend of {a} and {b}")
PLAIN_PHRASES = 2  # of each concept: its name and its prompt, or the names by which it is asked for most
WORDS = (
    "highly detailed", "beautiful", "dramatic", "masterpiece", "best quality", "4k", "artistic", "dreamy", "sharp", "intricate",
    "elegant", "live performance", "concert visuals", "trending", "stage visuals", "amazing", "uhd",
)  # fmt: skip
SUBJECTS = (
    "person", "face", "portrait", "woman", "man", "dancer", "singer", "crowd", "band", "stage", "city", "street", "landscape",
    "forest", "flower", "cat", "dog", "car", "room", "hand", "body", "sky", "house", "child", "guitar", "drummer", "dj",
)  # fmt: skip


class PromptWriter:
    """Writes prompts for recipes over a list of concepts; `extra[number]` are further ways to ask for a concept alone.

    plain: share of the prompts for one concept alone that are its first phrases and nothing else, by which it is asked for most.
    """

    def __init__(self, concepts: Sequence[Concept], *, extra: dict[int, list[str]], plain: float = 0.0) -> None:
        self.concepts = concepts
        self.extra, self.plain = extra, plain

    def __call__(self, recipe: Recipe, generator: np.random.Generator) -> str:
        """One prompt."""
        first = self._phrase(recipe.first, generator)
        if recipe.second >= 0:
            return _picked(MIXTURES, generator).format(a=first, b=self._phrase(recipe.second, generator))
        if recipe.colours[0] >= 0:
            return _joined(first, palette_words(recipe.colours, generator), generator)
        if recipe.tone >= 0:
            return _joined(first, _picked(TONES[recipe.tone].phrases, generator), generator)
        if generator.random() < self.plain:
            return _picked(self.concepts[recipe.first].phrases[:PLAIN_PHRASES], generator)
        extra = self.extra.get(recipe.first)
        if extra and generator.random() < 0.3:
            return _picked(extra, generator)
        return woven(first, generator)

    def _phrase(self, number: int, generator: np.random.Generator) -> str:
        phrases = self.concepts[number].phrases
        likely = generator.random() < 0.35  # its plain name or its own prompt, by which it will be asked for most
        return _picked(phrases[:PLAIN_PHRASES] if likely else phrases, generator)


def woven(phrase: str, generator: np.random.Generator) -> str:
    """`phrase` in a sentence, if it is short enough for one."""
    if phrase.count(" ") > 6:
        return phrase
    word, other = generator.choice(WORDS, size=2, replace=False)
    return _picked(TEMPLATES, generator).format(look=phrase, word=word, other=other, subject=_picked(SUBJECTS, generator))


def palette_words(colours: tuple[int, int], generator: np.random.Generator) -> str:
    """One or two colours in words, in either order."""
    one, other = colours
    if other < 0:
        return _picked(SINGLE_TEMPLATES, generator).format(a=COLOUR_NAMES[one])
    names = [COLOUR_NAMES[one], COLOUR_NAMES[other]]
    generator.shuffle(names)
    return _picked(PALETTE_TEMPLATES, generator).format(a=names[0], b=names[1])


def _joined(phrase: str, addition: str, generator: np.random.Generator) -> str:
    if generator.random() < 0.2:
        return f"{addition}, {phrase}"
    return f"{phrase} {addition}" if addition.startswith("in ") and generator.random() < 0.7 else f"{phrase}, {addition}"


def _picked(texts: Sequence[str], generator: np.random.Generator) -> str:
    return texts[int(generator.integers(len(texts)))]
