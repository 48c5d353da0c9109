"""The looks that are drawn procedurally, by name with ways to ask for them; no drawing code."""

from collections.abc import Callable
from dataclasses import dataclass

from .drawn_looks import DRAWINGS
from .tones import Picture


@dataclass(frozen=True)
class Look:
    """One look: `prompts[0]` is its plain name, `drawn` makes the picture."""

    prompts: tuple[str, ...]
    drawn: Callable[[Picture], Picture]

    @property
    def name(self) -> str:
        return self.prompts[0]


DRAWN: tuple[Look, ...] = tuple(Look(prompts, function) for function, prompts in DRAWINGS)

RECOMMENDED: tuple[str, ...] = (
    "neon edges", "thermal camera", "blueprint", "ink drawing", "x-ray", "night vision", "fire", "ice", "vaporwave",
    "pop art", "blacklight", "starry night",
)  # fmt: skip
