"""The last part of making a pair, for whole batches on the training device: the style teacher, colours and light."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .concepts import Concept
from .pairs import DrawnPairs
from .palettes import COLOUR_NAMES, PALETTE_SHARE, STOPS, TONES, palette_stops
from .precision import quickly
from .recipes import Recipe
from .style_teacher import StyleTeacher

TEACHER_BATCH = 24
LUMA = (0.299, 0.587, 0.114)


def signed(pictures: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] -> float [B, 3, H, W] in [-1, 1], channels last in memory."""
    return (pictures.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def on_device(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    """`array` as a tensor on `device`, without making the caller wait for the device."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def brightness(pictures: Tensor) -> Tensor:
    """[B, 1, H, W] of pictures [B, 3, H, W]."""
    return torch.einsum("bchw,c->bhw", pictures, pictures.new_tensor(LUMA))[:, None]


def recoloured(pictures: Tensor, stops: Tensor) -> Tensor:
    """Pictures [B, 3, H, W] in [0, 1] with the colours `stops` [B, 4, 3] in [0, 1] laid over their brightness, linearly between STOPS."""
    tone = brightness(pictures)
    made = stops[:, 0, :, None, None].expand_as(pictures)
    for number, (low, high) in enumerate(zip(STOPS[:-1], STOPS[1:], strict=True)):
        step = stops[:, number + 1] - stops[:, number]
        made = made + step[:, :, None, None] * ((tone - low) / (high - low)).clamp(0, 1)
    return PALETTE_SHARE * made + (1 - PALETTE_SHARE) * pictures


def retoned(pictures: Tensor, gamma: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    """Pictures [B, 3, H, W] in [0, 1] in changed light; exponents and factors [B]."""
    curved = pictures.clamp(0, 1) ** gamma[:, None, None, None]
    grey = brightness(curved)
    colour = grey + saturation[:, None, None, None] * (curved - grey)
    return ((colour - 0.5) * contrast[:, None, None, None] + 0.5).clamp(0, 1)


@dataclass(frozen=True)
class Finisher:
    """Finishes drawn pairs on `device`: what their recipes ask for beyond the drawn looks."""

    concepts: Sequence[Concept]
    teacher: StyleTeacher
    device: torch.device

    @torch.inference_mode()
    def __call__(self, pairs: DrawnPairs) -> Tensor:
        """The finished pictures uint8 [N, S, S, 3] on the device."""
        recipes = [Recipe.from_row(row) for row in pairs.recipes]
        pictures = on_device(pairs.drawn, self.device).permute(0, 3, 1, 2).float() / 255
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        for numbers in ([recipe.first for recipe in recipes], [recipe.second for recipe in recipes]):
            self._teach(pictures, numbers)
        self._colour(pictures, recipes)
        self._light(pictures, recipes)
        return (pictures * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous()

    def _teach(self, pictures: Tensor, numbers: Sequence[int]) -> None:
        vectors = {row: self.concepts[number].vector for row, number in enumerate(numbers) if number >= 0}
        rows = [row for row, vector in vectors.items() if vector is not None]
        for start in range(0, len(rows), TEACHER_BATCH):
            part = rows[start : start + TEACHER_BATCH]
            if self.device.type == "cuda":  # the last row again and again: convolutions are tuned anew for every number of pictures
                part = part + part[-1:] * (TEACHER_BATCH - len(part))
            wanted = on_device(np.stack([np.asarray(vectors[row], np.float32) for row in part]), self.device)
            places = on_device(np.array(part), self.device)
            with quickly(self.device):
                pictures[places] = self.teacher(pictures[places], wanted).float()

    def _colour(self, pictures: Tensor, recipes: Sequence[Recipe]) -> None:
        rows = [row for row, recipe in enumerate(recipes) if recipe.colours[0] >= 0]
        if not rows:
            return
        named = [(COLOUR_NAMES[one], COLOUR_NAMES[other] if other >= 0 else None) for one, other in (recipes[row].colours for row in rows)]
        stops = on_device(np.stack([palette_stops(*names) for names in named]), self.device) / 255
        places = on_device(np.array(rows), self.device)
        pictures[places] = recoloured(pictures[places], stops)

    def _light(self, pictures: Tensor, recipes: Sequence[Recipe]) -> None:
        rows = [row for row, recipe in enumerate(recipes) if recipe.tone >= 0]
        if not rows:
            return
        changes = [TONES[recipes[row].tone] for row in rows]
        factors = on_device(np.array([(change.gamma, change.saturation, change.contrast) for change in changes], np.float32), self.device)
        places = on_device(np.array(rows), self.device)
        pictures[places] = retoned(pictures[places], *factors.unbind(dim=1))
