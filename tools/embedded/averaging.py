"""The moving average of a network's weights, which is what ships."""

import torch
from torch import nn

AVERAGE_DECAY = 0.999


def update_average(average: nn.Module, network: nn.Module, *, step: int) -> None:
    """Exponential moving average of the weights, quicker in the first steps."""
    decay = min(AVERAGE_DECAY, (1 + step) / (10 + step))
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
