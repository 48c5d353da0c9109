"""The moving average of a network's weights, which is what ships."""

import torch
from torch import nn

AVERAGE_DECAY = 0.999


def update_average(average: nn.Module, network: nn.Module, *, step: int, decay: float = AVERAGE_DECAY) -> None:
    """Exponential moving average of the weights, quicker in the first steps."""
    share = 1 - min(decay, (1 + step) / (10 + step))
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), share)
