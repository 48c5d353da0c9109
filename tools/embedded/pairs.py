"""Pairs of a photo crop and the picture a recipe makes of it, as far as drawing goes; the style teacher comes after, on the device."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
import torch
from transformers import CLIPTokenizer

from .concepts import Concept
from .networks import LATENTS
from .photos import random_crop
from .prompts import PromptWriter
from .recipes import EachInTurn, Recipe, RecipeBook
from .tokenizer import token_ids
from .tones import Picture

PROMPTS = 2  # ways in which each recipe is asked for
CLOUD_SIGMA = 9.0  # pixels: how coarse the textures are that come from noise


@dataclass(frozen=True)
class DrawnPairs:
    """N pairs before the style teacher.

    contents, drawn: uint8 [N, side, side, 3], `drawn` with the recipes' drawn looks. recipes: int64 [N, 6], rows of `Recipe`.
    ids: int16 [N, PROMPTS, 32], token numbers of prompts. noise: float16 [N, LATENTS, side / 8, side / 8], of the textures without a photo.
    """

    contents: npt.NDArray[np.uint8]
    drawn: npt.NDArray[np.uint8]
    recipes: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int16]
    noise: npt.NDArray[np.float16]


def seeded_noise(seed: int, *, side: int) -> torch.Tensor:
    """The noise [LATENTS, side / 8, side / 8] that a texture is made from and that the denoiser starts from to make it."""
    return torch.randn(LATENTS, side // 8, side // 8, generator=torch.Generator().manual_seed(seed))


def clouds(noise: torch.Tensor) -> Picture:
    """Coloured clouds [8 h, 8 w, 3] that are a smooth function of latent noise [C, h, w]: a small step of it moves them a little.

    The first three channels are the colours, the fourth is the light.
    """
    _, height, width = noise.shape
    large = cv2.resize(noise[:4].permute(1, 2, 0).numpy(), (8 * width, 8 * height), interpolation=cv2.INTER_CUBIC)
    soft = cv2.GaussianBlur(large, (0, 0), CLOUD_SIGMA, borderType=cv2.BORDER_REFLECT)
    soft = soft / 0.24  # the spread of unit noise after this blur
    colour = 0.5 + 0.5 * np.sin(1.5 * soft[..., :3])
    light = 0.35 + 0.65 * (0.5 + 0.5 * np.sin(2.5 * soft[..., 3:]))
    return np.asarray(np.clip(255 * colour * light, 0, 255), dtype=np.uint8)


class PairArtist:
    """Draws batches of pairs of `side` pixels from `photos` [P, 256, 256, 3], with prompts that ask for them."""

    def __init__(
        self,
        concepts: Sequence[Concept],
        photos: npt.NDArray[np.uint8],
        *,
        writer: PromptWriter,
        tokenizer: CLIPTokenizer,
        side: int,
    ) -> None:
        self.concepts, self.photos = concepts, photos
        self.book: RecipeBook | EachInTurn = RecipeBook(concepts)
        self.writer, self.tokenizer, self.side = writer, tokenizer, side

    def drawn(self, count: int, generator: np.random.Generator) -> DrawnPairs:
        """`count` pairs; the same state of the generator gives the same pairs."""
        recipes = [drawn_first(self.book.drawn(generator), self.concepts) for _ in range(count)]
        contents, noise = [], np.zeros((count, LATENTS, self.side // 8, self.side // 8), np.float16)
        for i, recipe in enumerate(recipes):
            if recipe.noise_seed >= 0:
                start = seeded_noise(recipe.noise_seed, side=self.side)
                noise[i] = start.half().numpy()
                contents.append(clouds(start))
            else:
                photo = self.photos[int(generator.integers(len(self.photos)))]
                contents.append(random_crop(photo, side=self.side, generator=generator))
        texts = [self.writer(recipe, generator) for recipe in recipes for _ in range(PROMPTS)]
        ids = np.asarray(token_ids(self.tokenizer, texts), dtype=np.int16)
        return DrawnPairs(
            contents=np.stack(contents),
            drawn=np.stack([self._drawn(content, recipe) for content, recipe in zip(contents, recipes, strict=True)]),
            recipes=np.array([recipe.row() for recipe in recipes], dtype=np.int64),
            ids=ids.reshape(count, PROMPTS, -1),
            noise=noise,
        )

    def _drawn(self, picture: Picture, recipe: Recipe) -> Picture:
        for number in (recipe.first, recipe.second):
            draw = self.concepts[number].drawn if number >= 0 else None
            picture = picture if draw is None else draw(picture)
        return picture


def drawn_first(recipe: Recipe, concepts: Sequence[Concept]) -> Recipe:
    """The recipe with a drawn look before a taught style, as drawing comes before the style teacher."""
    swapped = recipe.second >= 0 and concepts[recipe.first].drawn is None and concepts[recipe.second].drawn is not None
    return replace(recipe, first=recipe.second, second=recipe.first) if swapped else recipe
