"""Linear blends of two pictures: dry/wet and feedback (pure)."""

from __future__ import annotations

import torch
from torch import Tensor


def mix(dry: Tensor, wet: Tensor, amount: Tensor | float) -> Tensor:
    """dry + amount (wet - dry): 0 gives `dry` and 1 gives `wet`, both bit for bit.

    dry, wet: the same shape, any float dtype. amount: a float or a 0-dim tensor on their device, in [0, 1].
    """
    weight = amount.to(dry.dtype) if isinstance(amount, Tensor) else amount
    return torch.lerp(dry, wet, weight)


def feedback(incoming: Tensor, last: Tensor, amount: Tensor | float) -> Tensor:
    """The next input: the share `amount` of the last finished picture in the incoming one.

    incoming, last: [B, 3, H, W] in [-1, 1]. `last` is clamped to that range and its NaN replaced by `incoming`:
    a loop would otherwise keep one broken pixel for ever and run away from one value too large.
    """
    return mix(incoming, torch.where(torch.isnan(last), incoming, last).clamp(-1.0, 1.0), amount)
