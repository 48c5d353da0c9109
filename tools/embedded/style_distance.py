"""How far apart the styles of pictures are: statistics of an ImageNet network's features, each measured by how much styles differ in it.

Gatys et al. 2016 and Huang and Belongie 2017 describe style by Gram matrices and by means and deviations of channels. Most of these
numbers hardly differ from style to style; divided by their spread over the wanted pictures, those that tell styles apart weigh most.
"""

import torch
from torch import Tensor, nn

DECAY = 0.99  # of the running spread, a batch
SMALL = 0.05  # of a group's typical spread: keeps numbers that hardly vary from being blown up
STEEPEST = 1e-4  # a covariance below which its root is nearly straight


def style_statistics(features: Tensor) -> list[Tensor]:
    """Channel means and deviations [B, 2 C], and signed roots of the covariances [B, C (C + 1) / 2], of features [B, C, h, w]."""
    places = features.permute(0, 2, 3, 1).flatten(1, 2)  # channels last, as they lie in memory: no copy
    means = places.mean(dim=1)
    matrix = torch.bmm(places.transpose(1, 2), places) / places.shape[1] - means[:, :, None] * means[:, None, :]
    deviations = matrix.diagonal(dim1=1, dim2=2).clamp(min=1e-8).sqrt()
    rows, columns = torch.triu_indices(matrix.shape[1], matrix.shape[1], device=matrix.device)
    upper = matrix[:, rows, columns]
    roots = upper.sign() * ((upper.abs() + STEEPEST).sqrt() - STEEPEST**0.5)
    return [torch.cat([means, deviations], dim=1), roots]


class StyleDistance(nn.Module):
    """`distance(made, wanted)`: lists of features [B, C, h, w] -> one number; a batch of wanted pictures should show many styles.

    channels: of each feature map. Keeps the running spread of every number over the wanted pictures.
    """

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        lengths = [length for count in channels for length in (2 * count, count * (count + 1) // 2)]
        self.register_buffer("weight", torch.zeros(()))
        for number, length in enumerate(lengths):
            self.register_buffer(f"mean_{number}", torch.zeros(length))
            self.register_buffer(f"square_{number}", torch.zeros(length))

    def forward(self, made: list[Tensor], wanted: list[Tensor]) -> Tensor:
        with torch.autocast(wanted[0].device.type, enabled=False):  # a spread is a small difference of large squares
            return self._apart(made, wanted)

    def _apart(self, made: list[Tensor], wanted: list[Tensor]) -> Tensor:
        with torch.no_grad():
            right = [group for feature in wanted for group in style_statistics(feature.float())]
            self.get_buffer("weight").lerp_(right[0].new_ones(()), 1 - DECAY)
            spreads = [self._spread(number, group) for number, group in enumerate(right)]
        mine = [group for feature in made for group in style_statistics(feature.float())]
        apart = [((m - r) / spread).square().mean() for m, r, spread in zip(mine, right, spreads, strict=True)]
        return torch.stack(apart).sum()

    def _spread(self, number: int, group: Tensor) -> Tensor:
        """The running standard deviation [D] of one group, `group` [B, D] taken in."""
        weight, mean, square = (self.get_buffer(name) for name in ("weight", f"mean_{number}", f"square_{number}"))
        mean.lerp_(group.mean(dim=0), 1 - DECAY)
        square.lerp_(group.square().mean(dim=0), 1 - DECAY)
        variance = (square / weight - (mean / weight).square()).clamp(min=0)
        typical = (variance.mean() + (mean / weight).var()).sqrt()
        return variance.sqrt() + SMALL * typical + 1e-6
