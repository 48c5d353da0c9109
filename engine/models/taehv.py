"""The tiny video autoencoder for Wan 2.1's latents (TAEHV's weights `taew2_1`): the network, in the published key layout.

16 latent channels, 8x smaller a side, 4x in time; 11.3 million weights. Only the network is here, as two chains of layers over
[B, T, C, H, W]; keeping a session is `video_codec_tiny`'s part. Written from the architecture; the weights are Ollin Boer
Bohan's (MIT licence).

Every layer works on single frames, but for three kinds that know time. A memory block (MemoryBlock) sees each frame beside the
frame before it at its own place; TPool joins `stride` frames to one; TGrow makes `stride` frames of one. So all that the
network remembers of the past is one frame a memory block.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

LATENT_CHANNELS = 16
_ENCODER_WIDTH = 64
_DECODER_WIDTHS = (256, 128, 64, 64)
_MEMORY_BLOCKS = 3
"""Memory blocks at each of the three sizes of either half."""

Memory = dict[int, Tensor]
"""The last frame [B, C, h, w] that each memory block saw, by the block's place in its chain."""


def _conv(channels_in: int, channels_out: int, *, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=bias)


class MemoryBlock(nn.Module):
    """relu(x + convolutions(x beside the frame before x))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            _conv(2 * width, width), nn.ReLU(), _conv(width, width), nn.ReLU(), _conv(width, width)
        )  # fmt: skip

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        """Both [N, C, h, w]."""
        return torch.relu(self.conv(torch.cat([x, before], dim=1)) + x)


class TPool(nn.Module):
    """Every `stride` frames to one, by a 1x1 convolution over their channels side by side."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(width * stride, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w] to [N / stride, C, h, w]; frames that belong together follow each other."""
        joined: Tensor = self.conv(x.reshape(-1, self.stride * x.shape[1], *x.shape[2:]))
        return joined


class TGrow(nn.Module):
    """One frame to `stride` frames, by a 1x1 convolution whose channels are their channels side by side."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(width, width * stride, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w] to [N * stride, C, h, w]."""
        grown: Tensor = self.conv(x).reshape(-1, *x.shape[1:])
        return grown


class SoftClamp(nn.Module):
    """3 tanh(x / 3): latents far outside of the usual range are pulled in."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return torch.tanh(x / 3) * 3


class Taehv(nn.Module):
    """Both halves as chains of layers whose places are the numbers in the published key names.

    encoder: RGB in [0, 1] to latents, four pictures to one. decoder: latents to RGB about [0, 1], one to four pictures.
    """

    pictures_per_latent = 4
    factor = 8
    latent_channels = LATENT_CHANNELS

    def __init__(self) -> None:
        super().__init__()
        narrow = _ENCODER_WIDTH
        encoder: list[nn.Module] = [_conv(3, narrow), nn.ReLU()]
        for stride in (2, 2, 1):
            encoder += [TPool(narrow, stride), _conv(narrow, narrow, stride=2, bias=False)]
            encoder += [MemoryBlock(narrow) for _ in range(_MEMORY_BLOCKS)]
        self.encoder = nn.Sequential(*encoder, _conv(narrow, LATENT_CHANNELS))
        decoder: list[nn.Module] = [SoftClamp(), _conv(LATENT_CHANNELS, _DECODER_WIDTHS[0]), nn.ReLU()]
        for stride, width, following in zip((1, 2, 2), _DECODER_WIDTHS, _DECODER_WIDTHS[1:], strict=False):
            decoder += [MemoryBlock(width) for _ in range(_MEMORY_BLOCKS)]
            decoder += [nn.Upsample(scale_factor=2), TGrow(width, stride), _conv(width, following, bias=False)]
        self.decoder = nn.Sequential(*decoder, nn.ReLU(), _conv(_DECODER_WIDTHS[-1], 3))

    def encode(self, pictures: Tensor, memory: Memory) -> Tensor:
        """[B, 4F, 3, H, W] in [0, 1] to [B, F, 16, H/8, W/8]; `memory` is read and renewed, empty at the start."""
        return _run(self.encoder, pictures, memory)

    def decode(self, latents: Tensor, memory: Memory) -> Tensor:
        """[B, F, 16, h, w] to [B, 4F, 3, 8h, 8w]; `memory` is read and renewed, empty at the start."""
        return _run(self.decoder, latents, memory)


def _run(chain: nn.Sequential, x: Tensor, memory: Memory) -> Tensor:
    """All frames through one layer after the other; before the first frame ever there is a frame of zeros."""
    batch = x.shape[0]
    x = x.flatten(0, 1)
    for place, layer in enumerate(chain):
        if isinstance(layer, MemoryBlock):
            frames = x.unflatten(0, (batch, -1))
            last = memory.get(place)
            known = torch.zeros_like(frames[:, :1]) if last is None else last[:, None]
            before = torch.cat([known, frames[:, :-1]], dim=1).flatten(0, 1)
            if last is None:
                memory[place] = frames[:, -1].clone()
            else:
                last.copy_(frames[:, -1])
            x = layer(x, before)
        else:
            x = layer(x)
    out: Tensor = x.unflatten(0, (batch, -1))
    return out


def fitted(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict in the published layout, with time layers that were trained for more frames cut to the last ones.

    Some published files hold TGrow weights for two frames where one is used.
    """
    wanted = {name: weight.shape for name, weight in _on_meta().state_dict().items()}
    return {name: _cut(name, weight, wanted.get(name)) for name, weight in state.items()}


def _cut(name: str, weight: Tensor, wanted: torch.Size | None) -> Tensor:
    longer = wanted is not None and name.startswith("decoder.") and weight.ndim == 4 and weight.shape[2:] == (1, 1)
    return weight[-wanted[0] :] if longer and wanted is not None and weight.shape[0] > wanted[0] else weight


def _on_meta() -> Taehv:
    with torch.device("meta"):
        return Taehv()
