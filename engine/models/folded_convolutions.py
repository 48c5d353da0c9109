"""Convolutions that follow one another without an activation as one, by algebra: exact and differentiable in the layers' weights.

A 3x3 convolution and one of stride 2 are one 5x5 of stride 2. A nearest upsampling and two 3x3 convolutions are one 3x3 at the small
size with four times the channels, and a pixel shuffle. The map in between is never made. A nearest upsampling and one 3x3 convolution
are one transposed 4x4 convolution. The outermost pixels are exact too (see `without_outside`). Where an autoencoder has such layers
is in `folded_autoencoder`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PairWeights(NamedTuple):
    """What a call of a folded pair needs: the kernel of the whole, and the pair's own for the outermost pixels.

    kernel: [O, I, 5, 5], or [4 O, I, 3, 3] for an upsampled pair; bias [O] or [4 O]. first [M, I, 3, 3] with first_bias [M] or none,
    second [O, M, 3, 3].
    """

    kernel: Tensor
    bias: Tensor
    first: Tensor
    first_bias: Tensor | None
    second: Tensor


def composed(first: Tensor, second: Tensor) -> Tensor:
    """The 5x5 kernel [O, I, 5, 5] of two 3x3 convolutions in a row, [M, I, 3, 3] and then [O, M, 3, 3]."""
    return F.conv2d(first.transpose(0, 1), second.flip(2, 3), padding=2).transpose(0, 1)


def composed_bias(first_bias: Tensor | None, second: Tensor, second_bias: Tensor | None) -> Tensor:
    """The bias [O] of two convolutions in a row; second [O, M, 3, 3]."""
    bias = second.new_zeros(second.shape[0]) if second_bias is None else second_bias
    return bias if first_bias is None else bias + second.sum((2, 3)) @ first_bias


def subpixel_kernel(kernel: Tensor) -> Tensor:
    """The kernel [4 O, I, 3, 3] whose output, pixel-shuffled by 2, is that of `kernel` [O, I, k, k] after a nearest upsampling by 2.

    k: 3 or 5. Row 2y + a of the upsampled map is row y of the small one, so tap j falls on row y + floor((a + j - k // 2) / 2).
    """
    taps = kernel.shape[-1]
    step, row, tap = (torch.arange(count, device=kernel.device) for count in (2, 3, taps))
    falls_on = torch.div(step[:, None] + tap - taps // 2, 2, rounding_mode="floor") + 1
    place = (falls_on[:, None] == row[:, None]).to(kernel.dtype)
    return torch.einsum("oijk,ayj,bxk->oabiyx", kernel, place, place).flatten(0, 2)


def upsampling_kernel(kernel: Tensor) -> Tensor:
    """The kernel [I, O, 4, 4] of the transposed convolution, stride 2, padding 1, that equals `kernel` [O, I, 3, 3] after a nearest
    upsampling by 2: the adjoint of the upsampling spreads each tap over the two rows and columns it may come from."""
    return F.avg_pool2d(F.pad(kernel, (1, 1, 1, 1)), 2, stride=1, divisor_override=1).flip(2, 3).transpose(0, 1)


def strided_pair(x: Tensor, pair: PairWeights) -> Tensor:
    """A 3x3 convolution and a 3x3 of stride 2, each padded by 1: [B, I, H, W] to [B, O, ceil(H/2), ceil(W/2)]."""
    y = F.conv2d(x, pair.kernel, pair.bias, stride=2, padding=2)
    # With an even side the last output's window ends inside.
    return without_outside(y, x, pair, stride=2, bottom=x.shape[2] % 2 == 1, right=x.shape[3] % 2 == 1)


def upsampled_pair(x: Tensor, pair: PairWeights) -> Tensor:
    """A nearest upsampling by 2 and two 3x3 convolutions, each padded by 1: [B, I, h, w] to [B, O, 2h, 2w]."""
    y = F.pixel_shuffle(F.conv2d(x, pair.kernel, pair.bias, padding=1), 2)
    return without_outside(y, x, pair, upsampled=2)


def without_outside(
    y: Tensor, x: Tensor, pair: PairWeights, *, stride: int = 1, upsampled: int = 1, bottom: bool = True, right: bool = True
) -> Tensor:
    """The output y of a folded pair over x with its outermost pixels put right.

    Between two layers a map is padded with zeros, whereas the folded kernel goes on with what the first would give just outside the
    picture. That depends on the outermost row and column of x alone, and what the second makes of it is taken away again.
    bottom, right: whether the second layer looks beyond the last row, the last column.
    """
    rows = [_outside_row(_larger(x[:, :, :1], 1, upsampled), pair, last=False, stride=stride)]
    columns = [_outside_column(_larger(x[:, :, :, :1], upsampled, 1), pair, last=False, stride=stride)]
    if bottom:
        rows.append(_outside_row(_larger(x[:, :, -1:], 1, upsampled), pair, last=True, stride=stride))
    if right:
        columns.append(_outside_column(_larger(x[:, :, :, -1:], upsampled, 1), pair, last=True, stride=stride))
    return _less_at_ends(_less_at_ends(y, rows, dim=2), columns, dim=3)


def _larger(strip: Tensor, vertically: int, horizontally: int) -> Tensor:
    """A row or a column of the input, [B, I, 1, W] or [B, I, H, 1], as the first layer sees it."""
    for dim, times in ((2, vertically), (3, horizontally)):
        strip = strip.repeat_interleave(times, dim) if times > 1 else strip
    return strip


def _outside_row(row: Tensor, pair: PairWeights, *, last: bool, stride: int) -> Tensor:
    """What the row beyond the first (or last) `row` [B, I, 1, W] of the input adds to the output's, corners with it."""
    near, far = (0, 2) if last else (2, 0)
    beyond = F.conv2d(row, pair.first[:, :, near : near + 1], pair.first_bias, padding=(0, 2))
    return F.conv2d(beyond, pair.second[:, :, far : far + 1], stride=(1, stride))


def _outside_column(column: Tensor, pair: PairWeights, *, last: bool, stride: int) -> Tensor:
    """What the column beyond the first (or last) `column` [B, I, H, 1] adds, without the corners, which the rows have."""
    near, far = (0, 2) if last else (2, 0)
    beyond = F.conv2d(column, pair.first[..., near : near + 1], pair.first_bias, padding=(1, 0))
    return F.conv2d(beyond, pair.second[..., far : far + 1], stride=(stride, 1), padding=(1, 0))


def _less_at_ends(y: Tensor, ends: list[Tensor], *, dim: int) -> Tensor:
    """y with ends[0] taken from its first place along `dim` and ends[1], if there, from its last."""
    before = (slice(None),) * dim
    if y.shape[dim] == 1:
        return y - sum(ends[1:], ends[0])
    if len(ends) == 1:
        return torch.cat((y[(*before, slice(1))] - ends[0], y[(*before, slice(1, None))]), dim)
    first, middle, last = (y[(*before, part)] for part in (slice(1), slice(1, -1), slice(-1, None)))
    return torch.cat((first - ends[0], middle, last - ends[1]), dim)


def folded(first: nn.Conv2d, second: nn.Conv2d, *, upsampled: bool, gain: float = 1.0, offset: float = 0.0) -> PairWeights:
    """The weights of gain * y + offset, y being what the two layers in a row give; made in float32 at least, whatever autocast says,
    and then in the precision of the layers."""
    kept = first.weight.dtype
    exact = torch.promote_types(kept, torch.float32)
    device = first.weight.device.type
    with torch.autocast(device if torch.amp.is_autocast_available(device) else "cpu", enabled=False):
        w1, w2 = first.weight.to(exact), gain * second.weight.to(exact)
        b1 = None if first.bias is None else first.bias.to(exact)
        b2 = w2.new_full((len(w2),), offset) if second.bias is None else gain * second.bias.to(exact) + offset
        kernel, bias = composed(w1, w2), composed_bias(b1, w2, b2)
        if upsampled:
            kernel, bias = subpixel_kernel(kernel), bias.repeat_interleave(4)
    return PairWeights(kernel.to(kept), bias.to(kept), w1.to(kept), first.bias, w2.to(kept))
