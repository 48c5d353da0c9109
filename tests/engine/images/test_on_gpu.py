"""The tensor functions on a CUDA GPU: no host sync, capturable in a graph, and the numbers of the CPU."""

import pytest
import torch
from torch import Tensor

from engine.frames import PixelFormat
from engine.images.blend import feedback, mix
from engine.images.pixel_formats import to_bgra, to_rgb, to_uyvy
from engine.images.resize import MODES, fit

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU on this machine"),
]


def whole_way(pixels: Tensor, format: PixelFormat, amount: Tensor, mode: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Bytes in, fitted, blended, bytes out in both formats."""
    rgb, alpha = to_rgb(pixels, format, dtype)
    picture = fit(rgb, 64, 48, mode)
    fed = mix(picture, feedback(picture, picture.flip(-1), amount), amount)
    return to_bgra(fed, None if alpha is None else fit(alpha, 64, 48, mode, bars=1.0)), to_uyvy(fed)


@pytest.mark.parametrize("format", PixelFormat)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_captured_without_a_sync_it_gives_the_numbers_of_the_cpu(format: PixelFormat, mode: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    host = torch.randint(0, 256, (1, 100, 160, format.channels), dtype=torch.uint8, generator=generator)
    pixels, amount = torch.zeros_like(host, device="cuda"), torch.tensor(0.0, device="cuda")
    whole_way(pixels, format, amount, mode, dtype)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        bgra, uyvy = whole_way(pixels, format, amount, mode, dtype)
    pixels.copy_(host)
    amount.fill_(0.4)
    graph.replay()
    expected = whole_way(host, format, torch.tensor(0.4), mode, dtype)
    for ours, theirs in zip((bgra, uyvy), expected, strict=True):
        assert int((ours.cpu().int() - theirs.int()).abs().max()) <= (1 if dtype is torch.float32 else 2)
