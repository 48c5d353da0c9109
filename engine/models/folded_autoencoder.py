"""diffusers' AutoencoderTiny with fewer and smaller convolutions that give the same pictures and latents.

A stage without blocks leaves convolutions with nothing between them: the first two of the encoder, and the last two of the decoder
after its last upsampling, whose full-size map is most of the time of a small autoencoder. These are folded into one, and each other
upsampling into the convolution after it (`folded_convolutions`): for the engine once (`frozen_...`), for training at every call from
the weights of that moment (`folded_...`). How the engine calls an autoencoder is in `autoencoder`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.folded_convolutions import PairWeights, folded, strided_pair, upsampled_pair, upsampling_kernel


class FrozenPair(nn.Module):
    """A folded pair whose kernel was made once: [B, I, H, W] to [B, O, ceil(H/2), ceil(W/2)], or to [B, O, 2H, 2W] if upsampled."""

    kernel: Tensor
    bias: Tensor
    first: Tensor
    first_bias: Tensor | None
    second: Tensor

    def __init__(self, pair: PairWeights, *, upsampled: bool) -> None:
        super().__init__()
        self._run = upsampled_pair if upsampled else strided_pair
        for name, weight in pair._asdict().items():
            self.register_buffer(name, _constant(weight))

    def forward(self, x: Tensor) -> Tensor:
        """As the class says."""
        return self._run(x, PairWeights(self.kernel, self.bias, self.first, self.first_bias, self.second))


class FrozenUpsampling(nn.Module):
    """A nearest upsampling by 2 and its 3x3 convolution as one: [B, I, H, W] to [B, O, 2H, 2W]."""

    kernel: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        exact = torch.promote_types(layer.weight.dtype, torch.float32)
        self.register_buffer("kernel", _constant(upsampling_kernel(layer.weight.to(exact)).to(layer.weight.dtype)))
        self.register_buffer("bias", _constant(layer.bias))

    def forward(self, x: Tensor) -> Tensor:
        """As the class says."""
        return F.conv_transpose2d(x, self.kernel, self.bias, stride=2, padding=1)


class FoldedEncoder(nn.Module):
    """diffusers' EncoderTiny with its first two convolutions in one: RGB [B, 3, H, W] in [-1, 1] to latents."""

    def __init__(self, layers: Any) -> None:
        super().__init__()
        first, second = layers[0], layers[1]
        self.stem = FrozenPair(folded(first, second, upsampled=False), upsampled=False)
        self.rest = layers[2:]

    def forward(self, rgb: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, C, H/factor, W/factor]."""
        latents: Tensor = self.rest(self.stem((rgb + 1) / 2))
        return latents


class FoldedDecoder(nn.Module):
    """diffusers' DecoderTiny with its last upsampling and convolutions in one: latents to RGB about [-1, 1]."""

    def __init__(self, layers: Any) -> None:
        super().__init__()
        self.body = _with_upsamplings(layers[:-3])
        first, second = layers[-2], layers[-1]
        self.head = FrozenPair(_head(first, second), upsampled=True)

    def forward(self, latents: Tensor) -> Tensor:
        """[B, C, h, w] to [B, 3, h*factor, w*factor]."""
        rgb: Tensor = self.head(self.body(_bounded(latents)))
        return rgb


def folded_encoder(encoder: Any) -> Callable[[Tensor], Tensor]:
    """What encoder(rgb) gives, of an EncoderTiny that `folds`, by the weights it has at each call; for training."""
    first, second, *rest = encoder.layers

    def run(rgb: Tensor) -> Tensor:
        x = strided_pair((rgb + 1) / 2, folded(first, second, upsampled=False))
        for layer in rest:
            x = layer(x)
        return x

    return run


def folded_decoder(decoder: Any) -> Callable[[Tensor], Tensor]:
    """What decoder(latents) gives, of a DecoderTiny that `folds`, by the weights it has at each call; for training."""
    *body, _, first, second = decoder.layers

    def run(latents: Tensor) -> Tensor:
        x = _bounded(latents)
        for layer in body:
            x = layer(x)
        return upsampled_pair(x, _head(first, second))

    return run


def frozen_encoder(encoder: Any) -> Any:
    """An EncoderTiny that gives the same and is quicker, its weights as they are now; the same object if it does not fold."""
    return FoldedEncoder(encoder.layers) if encoder_folds(encoder) else encoder


def frozen_decoder(decoder: Any) -> Any:
    """A DecoderTiny that gives the same and is quicker, its weights as they are now; the same object if it does not fold."""
    return FoldedDecoder(decoder.layers) if decoder_folds(decoder) else decoder


def encoder_folds(encoder: Any) -> bool:
    """Whether it is an EncoderTiny whose first stage has no blocks."""
    layers = _layers(encoder, "EncoderTiny")
    return len(layers) > 2 and _is_plain(layers[0], stride=1) and _is_plain(layers[1], stride=2)


def decoder_folds(decoder: Any) -> bool:
    """Whether it is a DecoderTiny whose last stage has no blocks and that upsamples by 2, nearest."""
    layers = _layers(decoder, "DecoderTiny")
    return len(layers) > 3 and _doubles(layers[-3]) and _is_plain(layers[-2], stride=1) and _is_plain(layers[-1], stride=1)


def _constant(weight: Tensor | None) -> Tensor | None:
    """A weight as inference takes it, apart from the layers it was made of."""
    if weight is None:
        return None
    order = torch.channels_last if weight.ndim == 4 else torch.contiguous_format
    return weight.detach().clone(memory_format=order)


def _layers(network: Any, kind: str) -> list[nn.Module]:
    return list(network.layers) if type(network).__name__ == kind else []


def _is_plain(layer: nn.Module, *, stride: int) -> TypeGuard[nn.Conv2d]:
    return (
        isinstance(layer, nn.Conv2d)
        and (layer.kernel_size, layer.stride, layer.padding) == ((3, 3), (stride, stride), (1, 1))
        and (layer.dilation, layer.groups, layer.padding_mode) == ((1, 1), 1, "zeros")
    )


def _doubles(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Upsample) and layer.mode == "nearest" and layer.scale_factor == 2.0


def _head(first: nn.Conv2d, second: nn.Conv2d) -> PairWeights:
    """The end of a decoder: what its layers give is in [0, 1], and pictures are in [-1, 1]."""
    return folded(first, second, upsampled=True, gain=2.0, offset=-1.0)


def _bounded(latents: Tensor) -> Tensor:
    """Latents as the layers of a DecoderTiny take them: softly within -3 and 3."""
    return torch.tanh(latents / 3) * 3


def _with_upsamplings(layers: Iterable[nn.Module]) -> nn.Sequential:
    """The layers with every upsampling and its convolution in one."""
    found: list[nn.Module] = []
    for layer in layers:
        if found and _doubles(found[-1]) and _is_plain(layer, stride=1):
            found[-1] = FrozenUpsampling(layer)
        else:
            found.append(layer)
    return nn.Sequential(*found)
