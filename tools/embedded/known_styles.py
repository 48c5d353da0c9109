"""What every look and style is known by: statistics of its wanted pictures, and of the example that says what the style is."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .checkpoint import replace_checkpoint
from .finishing import Finisher, signed
from .pairs import PairArtist
from .perceptual import PerceptualLoss
from .precision import quickly
from .recipes import EachInTurn
from .style_contrast import StyleContrast, joined_statistics
from .style_examples import exemplified, style_examples

ROUNDS = 4  # photos that every look's mean is taken over
AT_ONCE = 12


@torch.no_grad()
def known_styles(
    path: Path, data: Path, artist: PairArtist, finisher: Finisher, eye: PerceptualLoss, *, seed: int
) -> tuple[StyleContrast, StyleContrast]:
    """How pictures are told from all others: by the means of all concepts but tags of `finisher`, and by the styles' examples in `data`.

    Read from `path`, or made from `artist`'s photos and left there.
    """
    shown = [number for number, concept in enumerate(finisher.concepts) if concept.kind != "tags"]
    files = exemplified(data, finisher.concepts)
    if not path.exists():
        samples = _wanted(shown, artist, finisher, eye, seed=seed)
        examples = _statistics(torch.from_numpy(style_examples(data, list(files.values()))).to(finisher.device), eye)
        replace_checkpoint(path, {"samples": samples.cpu(), "examples": examples.cpu()})
    known = torch.load(path, map_location=finisher.device, weights_only=True)
    samples, examples, means = known["samples"], known["examples"], known["samples"].mean(dim=1)
    form = {"lengths": [length for count in eye.channels for length in (2 * count, count * (count + 1) // 2)]}
    form |= {"concepts": len(finisher.concepts)}
    device = finisher.device
    numbers, all_shown = torch.tensor(list(files), device=device), torch.tensor(shown, device=device)
    by_means = StyleContrast(means, all_shown, usual=means.mean(dim=0), pictures=samples.flatten(0, 1), **form)
    usual = means[torch.isin(all_shown, numbers)].mean(dim=0)
    return by_means, StyleContrast(examples, numbers, usual=usual, pictures=examples, **form)


def _wanted(shown: Sequence[int], artist: PairArtist, finisher: Finisher, eye: PerceptualLoss, *, seed: int) -> Tensor:
    """[N, ROUNDS, D]: statistics of wanted pictures of the concepts `shown`."""
    artist.book, generator = EachInTurn(finisher.concepts), np.random.default_rng([seed, 5])
    found: dict[int, list[Tensor]] = {number: [] for number in shown}
    for _ in range(ROUNDS):
        for start in range(0, len(shown), AT_ONCE):
            pairs = artist.drawn(min(AT_ONCE, len(shown) - start), generator)
            for number, row in zip(pairs.recipes[:, 0], _statistics(finisher(pairs), eye), strict=True):
                found[int(number)].append(row)
    return torch.stack([torch.stack(found[number]) for number in shown])


def _statistics(pictures: Tensor, eye: PerceptualLoss) -> Tensor:
    """[N, D] of pictures uint8 [N, H, W, 3]."""
    parts = []
    for part in pictures.split(AT_ONCE):
        with quickly(pictures.device):
            features = eye.features(signed(part))
        parts.append(joined_statistics(features))
    return torch.cat(parts)
