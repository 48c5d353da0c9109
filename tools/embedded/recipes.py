"""What a training picture shows, as numbers: one or two concepts, colours, light, or a texture made from noise alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from .concepts import Concept
from .palettes import COLOUR_NAMES, COLOURS, TONES

MIXED, COLOURED, TONED, PAINTED = 0.10, 0.16, 0.08, 0.07  # shares of the recipes; the rest is one concept on a photo
KIND_SHARES = {"look": 0.28, "named": 0.60, "tags": 0.12}
STYLE_WIDTH = 64
PALETTE_WIDTH, TONE_WIDTH = 7, 3


@dataclass(frozen=True)
class Recipe:
    """`first` and `second` are numbers of concepts, drawn one after the other; `colours` numbers in COLOUR_NAMES; `tone` in TONES.

    -1 stands for none. `noise_seed` is set where there is no photo and the picture is made from that noise alone.
    """

    first: int
    second: int = -1
    colours: tuple[int, int] = (-1, -1)
    tone: int = -1
    noise_seed: int = -1

    def row(self) -> list[int]:
        """The recipe as six whole numbers."""
        return [self.first, self.second, *self.colours, self.tone, self.noise_seed]

    @classmethod
    def from_row(cls, row: Sequence[int] | npt.NDArray[np.int64]) -> "Recipe":
        """The inverse of `row`."""
        first, second, one, other, tone, seed = (int(value) for value in row)
        return cls(first, second, (one, other), tone, seed)


class RecipeBook:
    """Draws recipes over a list of concepts and gives each its meaning as a vector."""

    def __init__(self, concepts: Sequence[Concept]) -> None:
        self.concepts = concepts
        kinds = [concept.kind if concept.kind in KIND_SHARES else "named" for concept in concepts]
        counts = {kind: kinds.count(kind) for kind in set(kinds)}
        weights = np.array([KIND_SHARES[kind] / counts[kind] for kind in kinds])
        self.weights = weights / weights.sum()
        self.looks = [number for number, concept in enumerate(concepts) if concept.drawn is not None]
        self.style_codes = style_codes(concepts)

    @property
    def width(self) -> int:
        """Length of a meaning."""
        return STYLE_WIDTH + len(self.looks) + PALETTE_WIDTH + TONE_WIDTH

    def drawn(self, generator: np.random.Generator) -> Recipe:
        """A random recipe."""
        first = int(generator.choice(len(self.concepts), p=self.weights))
        kind = generator.random()
        if kind < MIXED:
            return Recipe(first, second=int(generator.choice(len(self.concepts), p=self.weights)))
        if kind < MIXED + COLOURED:
            one, other = (int(number) for number in generator.choice(len(COLOUR_NAMES), size=2, replace=False))
            return Recipe(first, colours=(one, -1 if generator.random() < 0.35 else other))
        if kind < MIXED + COLOURED + TONED:
            return Recipe(first, tone=int(generator.integers(len(TONES))))
        if kind < MIXED + COLOURED + TONED + PAINTED:
            return Recipe(first, noise_seed=int(generator.integers(2**31)))
        return Recipe(first)

    def meaning(self, recipe: Recipe) -> npt.NDArray[np.float32]:
        """[width]: style, which drawn look, colours, light; a mixture is the mean of its concepts."""
        numbers = [number for number in (recipe.first, recipe.second) if number >= 0]
        concept = np.mean([self.concept_code(number) for number in numbers], axis=0)
        return np.concatenate([concept, _palette_code(recipe.colours), _tone_code(recipe.tone)]).astype(np.float32)

    def concept_code(self, number: int) -> npt.NDArray[np.float32]:
        """[STYLE_WIDTH + looks]: the style vector's code and zeros, or zeros and which look it is."""
        code = np.zeros(STYLE_WIDTH + len(self.looks), dtype=np.float32)
        if self.concepts[number].drawn is None:
            code[:STYLE_WIDTH] = self.style_codes[number]
        else:
            code[STYLE_WIDTH + self.looks.index(number)] = 4.0  # outweighs the unit variance of the style numbers
        return code


@dataclass
class EachInTurn:
    """Recipes of one concept on a photo: every concept but tags, in a random order, then all again in another. With `others`, a share of
    the recipes comes from there.
    """

    concepts: Sequence[Concept]
    others: RecipeBook | None = None
    share: float = 0.0
    _left: list[int] = field(default_factory=list)

    def drawn(self, generator: np.random.Generator) -> Recipe:
        """The next recipe."""
        if self.others is not None and generator.random() < self.share:
            return self.others.drawn(generator)
        if not self._left:
            self._left = list(generator.permutation([n for n, concept in enumerate(self.concepts) if concept.kind != "tags"]))
        return Recipe(int(self._left.pop()))


def style_codes(concepts: Sequence[Concept]) -> npt.NDArray[np.float32]:
    """Principal components of the concepts' style vectors, each of unit variance: [concepts, STYLE_WIDTH], 0 for drawn looks."""
    taught = [number for number, concept in enumerate(concepts) if concept.vector is not None]
    vectors = np.stack([concept.vector for concept in concepts if concept.vector is not None])
    centred = vectors - vectors.mean(axis=0)
    _, scales, axes = np.linalg.svd(centred, full_matrices=False)
    kept = (centred @ axes[:STYLE_WIDTH].T) / (scales[:STYLE_WIDTH] / np.sqrt(len(vectors)))
    codes = np.zeros((len(concepts), STYLE_WIDTH), dtype=np.float32)
    codes[taught] = kept
    return codes


def _palette_code(colours: tuple[int, int]) -> npt.NDArray[np.float32]:
    if colours[0] < 0:
        return np.zeros(PALETTE_WIDTH, dtype=np.float32)
    numbers = (colours[0], colours[1] if colours[1] >= 0 else colours[0])
    codes = [np.array(COLOURS[COLOUR_NAMES[number]], np.float32) / 64 - 2 for number in numbers]
    dark, light = sorted(codes, key=lambda colour: (float(colour.sum()), tuple(colour)))
    return np.concatenate([[4.0], dark, light]).astype(np.float32)


def _tone_code(tone: int) -> npt.NDArray[np.float32]:
    if tone < 0:
        return np.zeros(TONE_WIDTH, dtype=np.float32)
    change = TONES[tone]
    return 4 * np.log(np.array([change.gamma, change.saturation, change.contrast], dtype=np.float32))
