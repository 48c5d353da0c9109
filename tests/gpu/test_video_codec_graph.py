"""A codec's calls as captured CUDA graphs: the same pictures as eagerly, after a reset too. Needs a CUDA GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.models.taehv import Taehv
from engine.models.video_codec import StreamVae
from engine.models.video_codec_tiny import StreamTaehv

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]


def wan() -> Any:
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    return StreamVae(AutoencoderKLWan(base_dim=16, num_res_blocks=1).eval().cuda(), fixed_caches=True)


def tiny() -> Any:
    torch.manual_seed(0)
    return StreamTaehv(Taehv().eval().cuda())


@pytest.mark.parametrize("make", [wan, tiny], ids=["wan", "taehv"])
def test_a_captured_chunk_is_the_eager_chunk_and_stays_right_after_a_reset(make: Callable[[], Any]) -> None:
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    x = torch.rand(1, 33, 3, 64, 96, generator=torch.Generator().manual_seed(1)).cuda() * 2 - 1
    parts = x.split([1, *[4] * 8], dim=1)
    eager, codec = make(), make()
    static = torch.zeros_like(parts[1])
    graph: torch.cuda.CUDAGraph | None = None
    out: Tensor = static
    for _ in range(2):
        for part in parts:
            wanted = eager.decode(eager.encode(part))
            if not codec.is_steady:
                found = codec.decode(codec.encode(part))
            else:
                static.copy_(part)
                if graph is None:
                    graph, out = captured(codec, static)
                graph.replay()
                found = out
            assert (found - wanted).abs().max() < 1e-5
        eager.reset()
        codec.reset()


def captured(codec: Any, static: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """A graph of one chunk; what the warm-up did to the session is undone."""
    saved = [place.clone() for place in codec.memory]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            codec.decode(codec.encode(static))
    torch.cuda.current_stream().wait_stream(side)
    for place, before in zip(codec.memory, saved, strict=True):
        place.copy_(before)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = codec.decode(codec.encode(static))
    return graph, out
