"""The judged model beside the judge's network over the held-out photos: pictures of prompts and their style features."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from rich.progress import track

from .features import Features
from .painter import Painter
from .pictures import Picture
from .style_space import style_features

PROMPTS_AT_ONCE = 8


@dataclass
class Studio:
    """`photos` uint8 [P, 256, 256, 3]; features of prompts are made once and kept."""

    painter: Painter
    network: Any
    photos: Picture
    _kept: dict[tuple[str, float, int, int, float], Features] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.content = self.painter.encoded(self.photos)

    def pictures(self, prompts: Sequence[str], *, strength: float = 1.0, steps: int = 1, seed: int = 0, guidance: float = 1.0) -> Picture:
        """Every photo at every prompt, uint8 [len(prompts), P, 256, 256, 3]."""
        count = len(self.photos)
        latents = self.painter.latents(
            self.content.repeat(len(prompts), 1, 1, 1),
            [prompt for prompt in prompts for _ in range(count)],
            strength=strength,
            steps=steps,
            seed=seed,
            guidance=guidance,
        )
        made = self.painter.decoded(latents)
        return made.reshape(len(prompts), count, *made.shape[1:])

    def features(self, prompts: Sequence[str], *, strength: float = 1.0, steps: int = 1, seed: int = 0, guidance: float = 1.0) -> Features:
        """Raw style features [len(prompts), P, D] of these pictures."""
        settings = (strength, steps, seed, guidance)
        missing = [prompt for prompt in dict.fromkeys(prompts) if (prompt, *settings) not in self._kept]
        parts = [missing[start : start + PROMPTS_AT_ONCE] for start in range(0, len(missing), PROMPTS_AT_ONCE)]
        for part in track(parts, description="painting", transient=True) if len(parts) > 4 else parts:
            made = self.pictures(part, strength=strength, steps=steps, seed=seed, guidance=guidance)
            raw, _ = style_features(self.network, made.reshape(-1, *made.shape[2:]))
            for prompt, row in zip(part, raw.reshape(len(part), len(self.photos), -1), strict=True):
                self._kept[(prompt, *settings)] = row
        return np.stack([self._kept[(prompt, *settings)] for prompt in prompts])

    def through_autoencoder(self, pictures: Picture) -> Picture:
        """Pictures [N, H, W, 3] encoded and decoded by the model's own autoencoder."""
        with torch.inference_mode():
            return self.painter.decoded(self.painter.encoded(pictures))
