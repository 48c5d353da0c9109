"""Pairs of a photo crop and the picture a recipe makes of it, made in shards on disk; no latents and no training here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from .concepts import Concept
from .palettes import COLOUR_NAMES, TONES, recoloured, retoned
from .photos import random_crop
from .recipes import Recipe, RecipeBook
from .style_teacher import StyleTeacher
from .tones import Picture

SHARD_BYTES = 2048 * 128 * 128 * 3  # of one picture array: shards of larger pictures hold fewer
TEACHER_BATCH = 16
CLOUD_SIGMA = 9.0  # pixels: how coarse the textures are that come from noise


@dataclass(frozen=True)
class Pairs:
    """One shard: `contents` and `targets` uint8 [N, side, side, 3], `recipes` int64 [N, 6] (rows of `Recipe`)."""

    contents: npt.NDArray[np.uint8]
    targets: npt.NDArray[np.uint8]
    recipes: npt.NDArray[np.int64]


@dataclass(frozen=True)
class RecipePainter:
    """Draws recipes over photos."""

    concepts: Sequence[Concept]
    teacher: StyleTeacher
    device: torch.device

    def painted(self, pictures: Sequence[Picture], recipes: Sequence[Recipe]) -> list[Picture]:
        """Each of the equally large `pictures` as the recipe beside it says."""
        made = self._in_concepts(list(pictures), [recipe.first for recipe in recipes])
        made = self._in_concepts(made, [recipe.second for recipe in recipes])
        return [finished(picture, recipe) for picture, recipe in zip(made, recipes, strict=True)]

    def _in_concepts(self, pictures: list[Picture], numbers: Sequence[int]) -> list[Picture]:
        results = list(pictures)
        taught = [i for i, number in enumerate(numbers) if number >= 0 and self.concepts[number].vector is not None]
        for start in range(0, len(taught), TEACHER_BATCH):
            part = taught[start : start + TEACHER_BATCH]
            for i, picture in zip(part, self._taught([pictures[i] for i in part], [numbers[i] for i in part]), strict=True):
                results[i] = picture
        for i, number in enumerate(numbers):
            draw = self.concepts[number].drawn if number >= 0 else None
            if draw is not None:
                results[i] = draw(pictures[i])
        return results

    def _taught(self, pictures: list[Picture], numbers: list[int]) -> list[Picture]:
        vectors = np.stack([np.asarray(self.concepts[number].vector, np.float32) for number in numbers])
        photos = torch.from_numpy(np.stack(pictures)).to(self.device).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16):
            styled = self.teacher(photos, torch.from_numpy(vectors).to(self.device)).float()
        return list((styled * 255).permute(0, 2, 3, 1).round().byte().cpu().numpy())


def finished(picture: Picture, recipe: Recipe) -> Picture:
    """`picture` with the recipe's colours and light."""
    one, other = recipe.colours
    if one >= 0:
        picture = recoloured(picture, COLOUR_NAMES[one], COLOUR_NAMES[other] if other >= 0 else None)
    return retoned(picture, TONES[recipe.tone]) if recipe.tone >= 0 else picture


def seeded_noise(seed: int, *, side: int) -> torch.Tensor:
    """The noise [4, side / 8, side / 8] that a texture is made from and that the denoiser starts from to make it."""
    return torch.randn(4, side // 8, side // 8, generator=torch.Generator().manual_seed(seed))


def clouds(noise: torch.Tensor) -> Picture:
    """Coloured clouds [8 h, 8 w, 3] that are a smooth function of latent noise [4, h, w]: a small step of it moves them a little."""
    _, height, width = noise.shape
    large = cv2.resize(noise.permute(1, 2, 0).numpy(), (8 * width, 8 * height), interpolation=cv2.INTER_CUBIC)
    soft = cv2.GaussianBlur(large, (0, 0), CLOUD_SIGMA, borderType=cv2.BORDER_REFLECT)
    soft = soft / 0.24  # the spread of unit noise after this blur
    colour = 0.5 + 0.5 * np.sin(1.5 * soft[..., :3])
    light = 0.35 + 0.65 * (0.5 + 0.5 * np.sin(2.5 * soft[..., 3:]))
    return np.asarray(np.clip(255 * colour * light, 0, 255), dtype=np.uint8)


def make_shard(path: Path, *, photos: npt.NDArray[np.uint8], painter: RecipePainter, book: RecipeBook, side: int, seed: int) -> None:
    """Write one shard to `path`; the same seed gives the same pairs."""
    generator = np.random.default_rng(seed)
    count = SHARD_BYTES // (side * side * 3)
    recipes = [book.drawn(generator) for _ in range(count)]
    contents = [random_crop(photos[number], side=side, generator=generator) for number in generator.integers(0, len(photos), size=count)]
    for i, recipe in enumerate(recipes):
        if recipe.noise_seed >= 0:
            contents[i] = clouds(seeded_noise(recipe.noise_seed, side=side))
    targets = painter.painted(contents, recipes)
    partial = path.with_suffix(".partial")
    partial.mkdir(parents=True, exist_ok=True)
    np.save(partial / "contents.npy", np.stack(contents))
    np.save(partial / "targets.npy", np.stack(targets))
    np.save(partial / "recipes.npy", np.array([recipe.row() for recipe in recipes], dtype=np.int64))
    partial.rename(path)


def open_shard(path: Path) -> Pairs:
    """One shard, memory-mapped."""
    return Pairs(
        contents=np.load(path / "contents.npy", mmap_mode="r"),
        targets=np.load(path / "targets.npy", mmap_mode="r"),
        recipes=np.load(path / "recipes.npy"),
    )


def shard_paths(work: Path, *, side: int) -> list[Path]:
    """The finished shards of pictures of `side` pixels, in order."""
    return sorted(path for path in work.glob(f"pairs_{side}_*") if path.suffix == "")
