"""Whether a picture's style can be told from all others: it shall be nearest to its own look's mean among all looks.

A distance alone is content with pictures that are half the way to every style. Where styles are alike, what tells them apart is a small
part of it: cross entropy over the means of all looks (van den Oord et al. 2018, "Representation learning with contrastive predictive
coding"; Snell et al. 2017, "Prototypical networks") weighs that part most.
"""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checkpoint import replace_checkpoint
from .finishing import Finisher, signed
from .pairs import PairArtist
from .perceptual import PerceptualLoss
from .recipes import EachInTurn
from .style_distance import SMALL, style_statistics

ROUNDS = 4  # photos that every look's mean is taken over
AT_ONCE = 12
TEMPERATURE = 0.05  # of the cosines


class StyleContrast(nn.Module):
    """`contrast(made, numbers)`: features [B, C, h, w] each and the concepts [B] they shall show, -1 for none of them.

    samples [N, P, D]: statistics of P wanted pictures of each of the concepts `shown` [N], out of `concepts` in all, in groups of
    `lengths`.
    """

    def __init__(self, samples: Tensor, shown: Tensor, lengths: list[int], *, concepts: int) -> None:
        super().__init__()
        means, pictures = samples.mean(dim=1), samples.flatten(0, 1)
        spread, scales = pictures.std(dim=0), []
        for group, part in zip(spread.split(lengths), pictures.split(lengths, dim=1), strict=True):
            scales.append(1 / ((group + SMALL * part.std() + 1e-6) * math.sqrt(len(group))))
        self.register_buffer("scale", torch.cat(scales))
        self.register_buffer("offset", means.mean(dim=0))
        self.register_buffer("centres", self.directions(means))
        rows = torch.full((concepts,), -1).to(shown)
        rows[shown] = torch.arange(len(shown)).to(shown)
        self.register_buffer("rows", rows)

    def directions(self, statistics: Tensor) -> Tensor:
        """Unit vectors [..., D]: in which way styles are unlike the usual picture."""
        return F.normalize((statistics - self.get_buffer("offset")) * self.get_buffer("scale"), dim=-1)

    def forward(self, made: list[Tensor], numbers: Tensor) -> tuple[Tensor, Tensor]:
        """The mean cross entropy and the share of pictures that are nearest to their own look; both 0 where nothing is asked for."""
        own = torch.where(numbers >= 0, self.get_buffer("rows")[numbers.clamp(min=0)], -1)
        with torch.autocast(numbers.device.type, enabled=False):
            statistics = torch.cat([group for feature in made for group in style_statistics(feature.float())], dim=1)
            cosines = self.directions(statistics) @ self.get_buffer("centres").T
            count = (own >= 0).sum().clamp(min=1)
            loss = F.cross_entropy(cosines / TEMPERATURE, own, ignore_index=-1, reduction="sum") / count
        return loss, ((cosines.argmax(dim=1) == own).sum() / count)


@torch.no_grad()
def wanted_styles(path: Path, artist: PairArtist, finisher: Finisher, eye: PerceptualLoss, *, seed: int) -> StyleContrast:
    """The contrast over all concepts but tags of `finisher`, read from `path`, or made from `artist`'s photos and left there."""
    shown = [number for number, concept in enumerate(finisher.concepts) if concept.kind != "tags"]
    lengths = [length for count in eye.channels for length in (2 * count, count * (count + 1) // 2)]
    if not path.exists():
        artist.book, generator = EachInTurn(finisher.concepts), np.random.default_rng([seed, 5])
        found: dict[int, list[Tensor]] = {number: [] for number in shown}
        for _ in range(ROUNDS):
            for start in range(0, len(shown), AT_ONCE):
                pairs = artist.drawn(min(AT_ONCE, len(shown) - start), generator)
                with torch.autocast(finisher.device.type, torch.bfloat16):
                    features = eye.features(signed(finisher(pairs)))
                rows = torch.cat([group for feature in features for group in style_statistics(feature.float())], dim=1)
                for number, row in zip(pairs.recipes[:, 0], rows.cpu(), strict=True):
                    found[int(number)].append(row)
        replace_checkpoint(path, {"samples": torch.stack([torch.stack(found[number]) for number in shown])})
    samples = torch.load(path, map_location=finisher.device, weights_only=True)["samples"]
    return StyleContrast(samples, torch.tensor(shown, device=finisher.device), lengths, concepts=len(finisher.concepts))
