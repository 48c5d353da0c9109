"""Pairs of a photo crop and the same crop in one look, made in shards on disk; no latents and no training here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from .looks import Look
from .photos import random_crop
from .style_teacher import StyleTable, StyleTeacher
from .tones import Picture, vivid

SHARD_BYTES = 2048 * 128 * 128 * 3  # of one picture array: shards of larger pictures hold fewer


@dataclass(frozen=True)
class Pairs:
    """One shard: `contents` and `targets` uint8 [N, side, side, 3], `looks` int64 [N], numbers in the look list."""

    contents: npt.NDArray[np.uint8]
    targets: npt.NDArray[np.uint8]
    looks: npt.NDArray[np.int64]


@dataclass(frozen=True)
class LookPainter:
    """Draws any of `looks` over a photo."""

    looks: Sequence[Look]
    teacher: StyleTeacher
    table: StyleTable
    device: torch.device

    def painted(self, pictures: Sequence[Picture], numbers: Sequence[int]) -> list[Picture]:
        """Each of the equally large `pictures` in the look of the number beside it."""
        results: dict[int, Picture] = {}
        taught = [i for i, number in enumerate(numbers) if self.looks[number].style is not None]
        for start in range(0, len(taught), 32):
            part = taught[start : start + 32]
            styled = self._taught([pictures[i] for i in part], [self.looks[numbers[i]] for i in part])
            results.update(zip(part, styled, strict=True))
        for i, number in enumerate(numbers):
            draw = self.looks[number].drawn
            if draw is not None:
                results[i] = draw(pictures[i])
        return [results[i] for i in range(len(pictures))]

    def _taught(self, pictures: list[Picture], looks: list[Look]) -> list[Picture]:
        vectors = np.stack([self.table.vector(look.style) for look in looks if look.style is not None])
        photos = torch.from_numpy(np.stack(pictures)).to(self.device).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            styled = self.teacher(photos, torch.from_numpy(vectors).to(self.device))
        arrays = (styled * 255).permute(0, 2, 3, 1).round().byte().cpu().numpy()
        return [vivid(array, saturation=look.saturation, contrast=look.contrast) for array, look in zip(arrays, looks, strict=True)]


def make_shard(path: Path, *, photos: npt.NDArray[np.uint8], painter: LookPainter, side: int, seed: int) -> None:
    """Write one shard to `path`; the same seed gives the same pairs."""
    generator = np.random.default_rng(seed)
    count = SHARD_BYTES // (side * side * 3)
    chosen = generator.integers(0, len(photos), size=count)
    looks = generator.integers(0, len(painter.looks), size=count)
    contents = [random_crop(photos[number], side=side, generator=generator) for number in chosen]
    targets = painter.painted(contents, [int(look) for look in looks])
    partial = path.with_suffix(".partial")
    partial.mkdir(parents=True, exist_ok=True)
    np.save(partial / "contents.npy", np.stack(contents))
    np.save(partial / "targets.npy", np.stack(targets))
    np.save(partial / "looks.npy", looks.astype(np.int64))
    partial.rename(path)


def open_shard(path: Path) -> Pairs:
    """One shard, memory-mapped."""
    return Pairs(
        contents=np.load(path / "contents.npy", mmap_mode="r"),
        targets=np.load(path / "targets.npy", mmap_mode="r"),
        looks=np.load(path / "looks.npy"),
    )


def shard_paths(work: Path, *, side: int) -> list[Path]:
    """The finished shards of pictures of `side` pixels, in order."""
    return sorted(path for path in work.glob(f"pairs_{side}_*") if path.suffix == "")
