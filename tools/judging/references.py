"""What the model is measured against: the examples' and the teacher's style features over the chosen styles, cached on disk."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from embedded.precision import quick_dtype, quickly
from embedded.style_examples import style_examples
from embedded.style_teacher import StyleTable, StyleTeacher
from rich.progress import track

from .catalogue import NamedStyle
from .features import Features
from .pictures import Picture
from .style_space import StyleSpace, style_features

CPU = torch.device("cpu")
FORM = "means, deviations, Gram roots of three stages; 1"
"""Changes when the features do, so that no old cache is read; nor is one that was made in another precision."""


@dataclass(frozen=True)
class References:
    """`examples` [S, D] and `taught` [S, P, D]: raw features of the examples and of the teacher's pictures; the space made of them."""

    styles: list[NamedStyle]
    examples: Features
    taught: Features
    space: StyleSpace

    def centroids(self, photo: int) -> Features:
        """Unit vectors [S, D]: the teacher's style over all photos but number `photo`, so that no motif gives it away."""
        others = np.delete(self.taught, photo, axis=1)
        return self.space.picture(others.mean(axis=1))


class TeacherPictures:
    """The style teacher on the held-out photos."""

    def __init__(self, *, data: Path, weights: Path, photos: Picture) -> None:
        self._teacher = StyleTeacher(weights / "style_teacher" / "transformer.safetensors", device=CPU)
        self._table = StyleTable(data)
        self._photos = torch.from_numpy(photos).permute(0, 3, 1, 2).float() / 255

    def __call__(self, style: NamedStyle) -> Picture:
        """Every photo in `style`, uint8 [P, 256, 256, 3]."""
        vector = torch.from_numpy(self._table.vectors[style.row])[None].expand(len(self._photos), -1)
        with torch.inference_mode(), quickly(CPU):
            made = self._teacher(self._photos, vector).float()
        return np.asarray((made * 255).permute(0, 2, 3, 1).round().byte().contiguous().numpy())


def references(
    styles: Sequence[NamedStyle], *, data: Path, teacher: TeacherPictures, photos: Picture, network: Any, cache: Path
) -> References:
    """Measure, or read what an earlier run with the same styles and photos measured from the folder `cache`."""
    digest = hashlib.sha256(photos.tobytes())
    digest.update("\n".join([FORM, str(quick_dtype(CPU)), *(style.key for style in styles)]).encode())
    path = cache / f"references_{digest.hexdigest()[:12]}.npz"
    if not path.exists():
        examples, lengths = style_features(network, style_examples(data, [style.example or "" for style in styles]))
        shown = track(styles, description="teacher", transient=True)
        taught = np.stack([style_features(network, teacher(style))[0] for style in shown])
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(path, examples=examples, taught=taught, lengths=np.array(lengths))
    kept = np.load(path)
    space = StyleSpace.of(kept["examples"], kept["taught"], kept["lengths"].tolist())
    return References(list(styles), kept["examples"], kept["taught"], space)
