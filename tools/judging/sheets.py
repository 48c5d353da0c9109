"""Contact sheets for looking: photos by prompts, strengths, seeds."""

from collections.abc import Sequence
from pathlib import Path

from embedded.sheet import labelled, write_sheet

from .seeds import SEEDS
from .structure import STRENGTHS
from .studio import Studio


def draw_sheets(folder: Path, studio: Studio, prompts: Sequence[str]) -> list[Path]:
    """prompts_1.png and prompts_2.png (steps; photos down, prompts across), strengths.png and seeds.png (prompts down)."""
    written = []
    photos = studio.photos
    for steps in (1, 2):
        made = studio.pictures(prompts, steps=steps)
        rows = [[photo, *(labelled(made[i, p], prompt) for i, prompt in enumerate(prompts))] for p, photo in enumerate(photos)]
        written.append(folder / f"prompts_{steps}.png")
        write_sheet(written[-1], rows)
    by_strength = [studio.pictures(prompts, strength=strength)[:, 0] for strength in STRENGTHS]
    rows = [
        [photos[0], *(labelled(made[i], f"{prompt} {strength}") for made, strength in zip(by_strength, STRENGTHS, strict=True))]
        for i, prompt in enumerate(prompts)
    ]
    written.append(folder / "strengths.png")
    write_sheet(written[-1], rows)
    by_seed = [studio.pictures(prompts, seed=seed)[:, 0] for seed in SEEDS]
    rows = [
        [photos[0], *(labelled(made[i], f"{prompt} seed {seed}") for made, seed in zip(by_seed, SEEDS, strict=True))]
        for i, prompt in enumerate(prompts)
    ]
    written.append(folder / "seeds.png")
    write_sheet(written[-1], rows)
    return written
