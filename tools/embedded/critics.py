"""Pictures compared as an eye would: by pixels, by the features of an ImageNet network, and by discriminators on those features.

The discriminators look at features, not at pixels: Sauer et al. 2021, "Projected GANs converge faster".
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .captured import adam
from .perceptual import PerceptualLoss
from .precision import quickly
from .style_distance import StyleDistance

LEARNING_RATE = 1e-3
PIXELS, PLACES, TEXTURES, STYLES, FOOLED = 0.5, 0.7, 6.0, 1.0, 0.1  # weights of the losses


def slope_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring-pixel differences: keeps edges sharp."""
    across = F.l1_loss(made.diff(dim=3), wanted.diff(dim=3))
    return across + F.l1_loss(made.diff(dim=2), wanted.diff(dim=2))


def picture_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """L1 of pixels, of slopes, and of the pictures at a quarter of the size (large areas of colour)."""
    coarse = F.l1_loss(F.avg_pool2d(made, 4), F.avg_pool2d(wanted, 4))
    return F.l1_loss(made, wanted) + slope_loss(made, wanted) + coarse


class Critics(nn.Module):
    """One small discriminator per feature map: list of [B, C, h, w] -> list of scores [B, 1, h, w], positive for real."""

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(self._head(count) for count in channels)

    @staticmethod
    def _head(channels: int) -> nn.Sequential:
        slope = nn.LeakyReLU(0.2)
        return nn.Sequential(nn.Conv2d(channels, 48, 3, padding=1), slope, nn.Conv2d(48, 48, 3, padding=1), slope, nn.Conv2d(48, 1, 1))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        return [head(feature) for head, feature in zip(self.heads, features, strict=True)]


def critic_loss(real: list[Tensor], made: list[Tensor]) -> Tensor:
    """Hinge loss of the discriminators."""
    both = [F.relu(1 - r.float()).mean() + F.relu(1 + m.float()).mean() for r, m in zip(real, made, strict=True)]
    return torch.stack(both).mean()


@dataclass(frozen=True)
class Comparison:
    """`loss` to descend; `values` for the record; `real` and `made` features for the critics to learn from."""

    loss: Tensor
    values: dict[str, Tensor]
    real: list[Tensor]
    made: list[Tensor]


class PictureCritics:
    """Compares made pictures with wanted ones and lets the discriminators learn along."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.perceptual = PerceptualLoss().to(device)
        self.styles = StyleDistance(self.perceptual.channels).to(device)
        self.critics = Critics(self.perceptual.channels).to(device)
        self.optimizer = adam(self.critics.parameters(), rate=LEARNING_RATE, betas=(0.0, 0.99), decay=0.0, device=device)

    def compare(self, made: Tensor, wanted: Tensor, *, adversarial: bool) -> Comparison:
        """Pictures [B, 3, H, W] in [-1, 1]; `adversarial` where and once the discriminators know something."""
        with quickly(self.device):
            real, fake, places, textures = self.perceptual.compared(made, wanted)
            styles = self.styles(fake, real)
            scores = self.critics(fake) if adversarial else []
        values = {"pixels": picture_loss(made.float(), wanted), "places": places, "textures": textures, "styles": styles}
        loss = PIXELS * values["pixels"] + PLACES * places + TEXTURES * textures
        loss = loss + STYLES * torch.log1p(styles)  # pictures that are far from any style must not drown all else
        if scores:
            loss = loss - FOOLED * torch.stack([score.float().mean() for score in scores]).mean()
        return Comparison(loss, values, real, fake)

    def learn(self, comparison: Comparison) -> Tensor:
        """One step of the discriminators; their loss, near 2 while they know nothing."""
        with quickly(self.device):
            judged = critic_loss(self.critics(comparison.real), self.critics([feature.detach() for feature in comparison.made]))
        self.optimizer.zero_grad(set_to_none=True)
        judged.backward()
        self.optimizer.step()
        return judged.detach()

    def state_dict(self) -> dict[str, object]:
        """Weights and optimizer of the discriminators, and how far styles are apart."""
        return {"critics": self.critics.state_dict(), "critic_optimizer": self.optimizer.state_dict(), "styles": self.styles.state_dict()}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """The inverse; other keys are left alone."""
        self.critics.load_state_dict(state["critics"])  # type: ignore[arg-type]
        self.optimizer.load_state_dict(state["critic_optimizer"])  # type: ignore[arg-type]
        self.styles.load_state_dict(state["styles"])  # type: ignore[arg-type]
