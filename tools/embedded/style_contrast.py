"""Whether a picture's style can be told from all others: among what stands for the looks it shall be nearest to its own.

A distance alone is content with pictures that are half the way to every style. Where styles are alike, what tells them apart is a small
part of it: cross entropy over all of them (van den Oord et al. 2018, "Representation learning with contrastive predictive coding"; Snell
et al. 2017, "Prototypical networks") weighs that part most.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .style_distance import SMALL, style_statistics

TEMPERATURE = 0.05  # of the cosines


def joined_statistics(features: list[Tensor]) -> Tensor:
    """[B, D]: all that `style_statistics` say of features [B, C, h, w], in float32."""
    with torch.autocast(features[0].device.type, enabled=False):  # a spread is a small difference of large squares
        return torch.cat([group for feature in features for group in style_statistics(feature.float())], dim=1)


class StyleContrast(nn.Module):
    """`contrast(statistics, numbers)`: statistics [B, D] of pictures, and the concepts [B] that they shall show, -1 where that is none.

    centres [N, D]: statistics that stand for the concepts `shown` [N], out of `concepts` in all. usual [D]: mean statistics of the pictures
    that will be asked about, taken off them as the mean of `centres` is taken off those. pictures [P, D]: their spread is the unit of each
    number; the groups, of `lengths`, weigh alike.
    """

    def __init__(self, centres: Tensor, shown: Tensor, *, usual: Tensor, pictures: Tensor, lengths: list[int], concepts: int) -> None:
        super().__init__()
        spread, scales = pictures.std(dim=0), []
        for group, part in zip(spread.split(lengths), pictures.split(lengths, dim=1), strict=True):
            scales.append(1 / ((group + SMALL * part.std() + 1e-6) * math.sqrt(len(group))))
        self.register_buffer("scale", torch.cat(scales))
        self.register_buffer("usual", usual)
        self.register_buffer("centres", F.normalize((centres - centres.mean(dim=0)) * self.get_buffer("scale"), dim=-1))
        rows = torch.full((concepts,), -1).to(shown)
        rows[shown] = torch.arange(len(shown)).to(shown)
        self.register_buffer("rows", rows)

    def forward(self, statistics: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """The mean cross entropy and the share of pictures that are nearest to their own look; both 0 where nothing is asked for."""
        own = torch.where(numbers >= 0, self.get_buffer("rows")[numbers.clamp(min=0)], -1)
        with torch.autocast(numbers.device.type, enabled=False):
            directions = F.normalize((statistics - self.get_buffer("usual")) * self.get_buffer("scale"), dim=-1)
            cosines = directions @ self.get_buffer("centres").T
            count = (own >= 0).sum().clamp(min=1)
            loss = F.cross_entropy(cosines / TEMPERATURE, own, ignore_index=-1, reduction="sum") / count
        return loss, ((cosines.argmax(dim=1) == own).sum() / count)
