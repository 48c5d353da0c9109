"""What the seed changes: with a photo at full strength, and without any photo (the content latent is zero)."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from .features import batches, distances, stages
from .pictures import Picture
from .report import Cell, Figures
from .studio import Studio

SEEDS = (0, 1, 2, 3)


def activations(studio: Studio, pictures: Picture) -> list[Tensor]:
    """The judge's activations of pictures [N, H, W, 3]."""
    parts = [stages(studio.network, part) for part in batches(pictures)]
    return [torch.cat(found) for found in zip(*parts, strict=True)]


def apart(studio: Studio, made: list[Picture]) -> tuple[float, float]:
    """Mean perceptual and mean absolute pixel distance (of 1) over all pairs of equally long picture lists."""
    seen = [activations(studio, pictures) for pictures in made]
    pairs = list(combinations(range(len(made)), 2))
    perceived = np.mean([float(distances(seen[a], seen[b]).mean()) for a, b in pairs])
    pixels = np.mean([np.abs(made[a].astype(np.float32) - made[b].astype(np.float32)).mean() / 255 for a, b in pairs])
    return float(perceived), float(pixels)


def without_photo(studio: Studio, prompts: Sequence[str], *, seed: int, steps: int) -> Picture:
    """Pictures [len(prompts), 256, 256, 3] from noise alone, as a stream without input makes them: zeros for the photo's latent."""
    content = torch.zeros_like(studio.content[:1]).expand(len(prompts), -1, -1, -1)
    return studio.painter.decoded(studio.painter.latents(content, prompts, seed=seed, steps=steps))


def seed_response(studio: Studio, prompts: Sequence[str]) -> Figures:
    """Distances between four seeds, and between prompts for scale: perceptual (see features.distances) and pixels."""
    rows: list[list[Cell]] = []
    by_seed = [studio.pictures(prompts, seed=seed) for seed in SEEDS]
    flat = [made.reshape(-1, *made.shape[2:]) for made in by_seed]
    rows.append(["between seeds, photo, strength 1, 1 step", *apart(studio, flat)])
    two = [studio.pictures(prompts, seed=seed, steps=2) for seed in SEEDS]
    rows.append(["between seeds, photo, strength 1, 2 steps", *apart(studio, [made.reshape(-1, *made.shape[2:]) for made in two])])
    rows.append(["between prompts, photo, strength 1, 1 step", *apart(studio, list(by_seed[0]))])
    for steps in (1, 4):
        painted = [without_photo(studio, prompts, seed=seed, steps=steps) for seed in SEEDS]
        rows.append([f"between seeds, no photo, {steps} steps", *apart(studio, painted)])
        rows.append([f"between prompts, no photo, {steps} steps", *apart(studio, [made[None] for made in painted[0]])])
        rows.append([f"contrast without a photo, {steps} steps (std of 1)", None, float(np.mean([p.std() for p in painted[0]]) / 255)])
    return Figures(f"Seeds: {len(prompts)} looks", ("what differs", "perceptual distance", "pixel distance"), rows)
