"""The looks that the video model learns, a chosen few of the drawn ones, and the prompts that ask for them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from embedded.drawn_looks import DRAWINGS
from embedded.prompts import woven
from embedded.tones import Picture, blurred, luma, mixed, palette, stretched
from torch import Tensor

from engine.models.prompt_encoder import PromptEncoder

CHOSEN = (
    "neon edges", "blueprint", "ink drawing", "thermal camera", "x-ray", "night vision", "fire", "ice", "lava", "aurora", "gold",
    "moonlight", "blood red", "toxic green", "ultraviolet",
)  # fmt: skip


@dataclass(frozen=True)
class Look:
    """phrases: ways to ask for it, its plain name first; draw: a picture to the picture in this look."""

    phrases: tuple[str, ...]
    draw: Callable[[Picture], Picture]

    @property
    def name(self) -> str:
        return self.phrases[0]


def underwater(picture: Picture) -> Picture:
    """Blue-green depth: soft, darker below, with pale light where the picture is bright."""
    tone = stretched(blurred(luma(picture), sigma=1.0))
    depth = np.linspace(1.0, 0.55, picture.shape[0], dtype=np.float32)[:, None]
    water = palette(tone * depth, ((0, 12, 40), (0, 58, 96), (10, 120, 140), (90, 200, 190), (220, 255, 240)))
    glow = blurred(np.clip(2 * tone - 1.2, 0, 1).astype(np.float32), sigma=5.0)
    return mixed(water, (150, 240, 230), 0.5 * glow)


def untouched(picture: Picture) -> Picture:
    """The picture as it is."""
    return np.asarray(cv2.copyTo(picture, None), dtype=np.uint8)


def looks() -> tuple[Look, ...]:
    """All looks of the model; the first is the picture as it is."""
    drawn = {prompts[0]: Look(prompts, function) for function, prompts in DRAWINGS}
    water = Look(("underwater", "under the sea", "deep blue ocean", "sunken in turquoise water", "diving in a lagoon"), underwater)
    plain = Look(("", "photo", "as it is", "natural colours", "plain camera picture"), untouched)
    return (plain, *(drawn[name] for name in CHOSEN), water)


def prompts(look: Look, generator: np.random.Generator, *, count: int) -> list[str]:
    """`count` prompts: its phrases, then the same in sentences."""
    own: Sequence[str] = look.phrases
    made = list(own[:count])
    while len(made) < count:
        phrase = own[int(generator.integers(len(own)))]
        made.append(woven(phrase, generator) if phrase else "")
    return made


def prompt_bank(looks: Sequence[Look], encoder: PromptEncoder, *, ways: int, seed: int) -> Tensor:
    """Embeddings float32 [looks, ways, L, D] of prompts for every look."""
    generator = np.random.default_rng(seed)
    return torch.stack(
        [torch.cat([encoder.encode(text).tokens for text in prompts(look, generator, count=ways)]) for look in looks]
    ).clone()
