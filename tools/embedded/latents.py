"""Latents of the pairs, encoded once per autoencoder and kept beside the pictures; batches of them for training."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderTiny
from torch import Tensor

from .autoencoder import to_signed
from .pairs import Pairs, open_shard, shard_paths
from .recipes import Recipe


@dataclass(frozen=True)
class LatentBatch:
    """`content` and `target` float32 [B, 4, h, w]; `recipes` of the targets, None for "leave the photo as it is".

    `pictures` are the target pictures uint8 [B, H, W, 3], None where they were not asked for.
    """

    content: Tensor
    target: Tensor
    recipes: list[Recipe | None]
    pictures: npt.NDArray[np.uint8] | None


def encoder_mark(autoencoder: AutoencoderTiny) -> str:
    """A short name of the encoder's weights: latents are encoded again when it changes."""
    digest = hashlib.sha256()
    for tensor in autoencoder.encoder.state_dict().values():
        digest.update(tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:10]


def latents_path(path: Path, mark: str) -> Path:
    """Where the latents of a shard lie."""
    return path / f"latents_{mark}.npy"


def encode_shard(path: Path, autoencoder: AutoencoderTiny, *, mark: str, device: torch.device) -> Path:
    """Write [N, 2, 4, h, w] float16 latents (content, target) of one shard, unless they are there."""
    result = latents_path(path, mark)
    if result.exists():
        return result
    pairs = open_shard(path)
    parts = []
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
        for start in range(0, len(pairs.recipes), 32):
            both = [array[start : start + 32] for array in (pairs.contents, pairs.targets)]
            encoded = [autoencoder.encode(to_signed(array, device=device)).latents for array in both]
            parts.append(torch.stack(encoded, dim=1).half().cpu().numpy())
    partial = result.with_suffix(".partial.npy")
    np.save(partial, np.concatenate(parts))
    partial.rename(result)
    return result


class LatentBatches:
    """Endless random batches over the shards of one picture size that have been encoded so far."""

    def __init__(self, work: Path, autoencoder: AutoencoderTiny, *, side: int, device: torch.device) -> None:
        self.autoencoder, self.device = autoencoder, device
        self.mark = encoder_mark(autoencoder)
        self.waiting = shard_paths(work, side=side)
        self.latents: list[npt.NDArray[np.float16]] = []
        self.shards: list[Pairs] = []
        while self.waiting and latents_path(self.waiting[0], self.mark).exists():
            self.grow()

    def grow(self) -> bool:
        """Encode and take in one more shard; False when there is none left. Training need not wait for all."""
        if not self.waiting:
            return False
        path = self.waiting.pop(0)
        encoded = encode_shard(path, self.autoencoder, mark=self.mark, device=self.device)
        self.latents.append(np.load(encoded, mmap_mode="r"))
        self.shards.append(open_shard(path))
        return True

    def batch(
        self,
        count: int,
        *,
        generator: np.random.Generator,
        unprompted: float,
        pictures: bool = False,
        keep: Callable[[Recipe], float] | None = None,
    ) -> LatentBatch:
        """`count` pairs; a share `unprompted` of those with a photo keeps the photo as target and has no recipe.

        keep: the chance with which a drawn recipe is taken, 1 for all of them without it.
        """
        rows, targets = [], []
        recipes: list[Recipe | None] = []
        for _ in range(count):
            number = int(generator.integers(len(self.shards)))
            shard, latents = self.shards[number], self.latents[number]
            place = int(generator.integers(len(latents)))
            recipe = Recipe.from_row(shard.recipes[place])
            while generator.random() > (1.0 if keep is None else keep(recipe)):
                place = int(generator.integers(len(latents)))
                recipe = Recipe.from_row(shard.recipes[place])
            content, target = latents[place]
            plain = recipe.noise_seed < 0 and bool(generator.random() < unprompted)
            rows.append((np.zeros_like(content) if recipe.noise_seed >= 0 else content, content if plain else target))
            recipes.append(None if plain else recipe)
            if pictures:
                targets.append((shard.contents if plain else shard.targets)[place])
        pairs = torch.from_numpy(np.asarray(rows, dtype=np.float32))
        return LatentBatch(pairs[:, 0], pairs[:, 1], recipes, np.stack(targets) if pictures else None)

    def colour_directions(self, *, pictures: int = 256) -> Tensor:
        """[4, 3]: how a latent cell changes with its mean colour in [-1, 1], by least squares over some targets."""
        latents = np.asarray(self.latents[0][:pictures, 1], dtype=np.float32)
        targets = np.asarray(self.shards[0].targets[:pictures], dtype=np.float32) / 127.5 - 1
        count, _, height, width = latents.shape
        cells = targets.reshape(count, height, 8, width, 8, 3).mean(axis=(2, 4)).reshape(-1, 3)
        known = np.concatenate([cells, np.ones((len(cells), 1), np.float32)], axis=1)
        found, *_ = np.linalg.lstsq(known, latents.transpose(0, 2, 3, 1).reshape(-1, 4), rcond=None)
        return torch.from_numpy(found[:3].T.astype(np.float32))
