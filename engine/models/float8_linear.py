"""A linear layer in 8 bits on torchao's Float8Tensor: weights quantised once, inputs at each call. Imports torchao, which is optional."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchao.float8.inference import Float8MMConfig
from torchao.quantization import Float8Tensor, PerRow
from torchao.quantization.quantize_.common import KernelPreference

FLOAT8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FLOAT8).max
LEAST = 1e-12
"""The largest number of a row of zeros, as far as its scale goes."""
_PRODUCT = Float8MMConfig(use_fast_accum=True)
_KERNEL = KernelPreference.TORCH


def quantised(x: Tensor) -> Tensor:
    """x [..., K] with a scale for each row, its largest number / 448: torchao's tensor of the same shape.

    torchao's own way takes seven passes over x, most of them in 32 bits; this takes two, which is what a gain hangs on.
    """
    largest = torch.linalg.vector_norm(x, ord=float("inf"), dim=-1, keepdim=True, dtype=torch.float32)
    scale = largest.clamp_min_(LEAST).mul_(1.0 / LARGEST)
    numbers = torch.empty(x.shape, dtype=FLOAT8, device=x.device)
    torch.div(x, scale, out=numbers)
    rows = [1] * (x.ndim - 1) + [x.shape[-1]]
    found: Tensor = Float8Tensor(numbers, scale, block_size=rows, mm_config=_PRODUCT, kernel_preference=_KERNEL, dtype=x.dtype)
    return found


class Float8Linear(nn.Module):
    """What nn.Linear computes, with weights and inputs in 8 bits: a scale a row of each, sums in 32 bits, results in bfloat16."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = Float8Tensor.from_hp(
            linear.weight.detach(), float8_dtype=FLOAT8, granularity=PerRow(), mm_config=_PRODUCT, hp_value_lb=LEAST,
            kernel_preference=_KERNEL,
        )  # fmt: skip
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """x [..., K], plain or as `quantised` gives it, to [..., N]."""
        return nn.functional.linear(x if isinstance(x, Float8Tensor) else quantised(x), self.weight, self.bias)
