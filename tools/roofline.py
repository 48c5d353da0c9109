"""The least time a device can need for a video stream's work: floating point operations and bytes against what the device can do.

An operation counts a multiplication and an addition as two. Bytes are those that cannot be saved: weights and cache once a call,
and what a convolution reads and writes. A stage takes at least the longer of both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from engine.models.loading_errors import quiet_libraries
from engine.models.video_codec import VideoCodec, picture_count
from engine.models.video_policies import WanShape
from engine.models.video_weights import LoadedVideoModel

PUBLISHED = {
    "H200": (989, 4.8), "H100 PCIe": (756, 2.0), "H100 NVL": (835, 3.9), "H100": (989, 3.35), "B200": (2250, 8.0),
    "A100": (312, 1.555), "L40S": (362, 0.864), "RTX 5090": (210, 1.792), "RTX 4090": (165, 1.008), "RTX 3090": (71, 0.936),
}  # fmt: skip
"""Dense bfloat16 TFLOP/s (summed in float32) and TB/s of the makers' data sheets, by a part of the device's name; the first that fits."""
REPEATS = 12


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What a device can do a second. source: where the numbers are from."""

    flops: float
    bytes: float
    source: str


@dataclass(frozen=True, slots=True)
class Work:
    """Operations and bytes."""

    flops: float
    bytes: float

    def seconds(self, ceilings: Ceilings) -> float:
        """At least so long."""
        return max(self.flops / ceilings.flops, self.bytes / ceilings.bytes)


def published(device_name: str) -> Ceilings | None:
    """The data sheet's, if the device is known."""
    for name, (tera_flops, tera_bytes) in PUBLISHED.items():
        if all(part in device_name for part in name.split()):
            return Ceilings(tera_flops * 1e12, tera_bytes * 1e12, f"data sheet, {name}")
    return None


def measured(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """The best of a few large matrix products and copies, on this device in this precision."""
    large = device.type == "cuda"
    side, numbers = (8192, 1 << 29) if large else (1024, 1 << 25)
    a, b = (torch.randn((side, side), device=device).to(dtype) for _ in range(2))
    source, target = (torch.zeros(numbers, dtype=torch.int16, device=device) for _ in range(2))
    out = torch.empty((side, side), device=device, dtype=dtype)
    product = _best_seconds(lambda: torch.mm(a, b, out=out), device)
    copy = _best_seconds(lambda: target.copy_(source), device)
    kind = str(dtype).removeprefix("torch.")
    return Ceilings(2 * side**3 / product, 2 * source.nbytes / copy, f"measured: a {kind} product of {side} a side, a copy")


def _best_seconds(work: Callable[[], object], device: torch.device) -> float:
    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    best = float("inf")
    for _ in range(REPEATS):
        wait()
        started = time.perf_counter()
        work()
        wait()
        best = min(best, time.perf_counter() - started)
    return best


def tokens_of(size: tuple[int, int], *, pixels: int) -> int:
    """Tokens of a latent frame of a (width, height) picture, `pixels` a side each."""
    return (size[0] // pixels) * (size[1] // pixels)


def denoiser_work(
    shape: WanShape, *, tokens: int, frames: int, window: int, rows: int = 1, prompt_tokens: int = 512, itemsize: int = 2
) -> Work:
    """One denoiser call over a full cache: `rows` chunks of `frames` latent frames that look at `window` frames each.

    A layer, with q = frames x tokens, k = window x tokens, width d, feed-forward f: linear parts 2 (6 d^2 + 2 d f) q, the prompt's
    keys and values being there already; self-attention 4 q k d; attention to the prompt 4 q p d. Bytes: weights once, keys and
    values of every row once.
    """
    d, queries = shape.width, frames * tokens
    weights = shape.layers * (6 * d * d + 2 * d * shape.ffn_dim)
    attention = shape.layers * 4 * queries * (window * tokens + prompt_tokens) * d
    return Work(
        flops=float(rows * (2 * weights * queries + attention)),
        bytes=float(itemsize * weights + rows * cache_bytes(shape, tokens=tokens, slots=window, itemsize=itemsize)),
    )


def cache_bytes(shape: WanShape, *, tokens: int, slots: int, itemsize: int = 2) -> int:
    """Keys and values of one row of the cache."""
    return shape.layers * 2 * slots * tokens * shape.width * itemsize


@dataclass(frozen=True, slots=True)
class CodecWork:
    """Of one chunk, and what a session keeps in memory."""

    encode: Work
    decode: Work
    session_bytes: int


def codec_work(loaded: LoadedVideoModel, size: tuple[int, int], *, frames: int) -> CodecWork:
    """Counted on the network itself without computing anything: a chunk of `frames` latent frames in a session that has begun."""
    config = getattr(loaded.vae, "config", None)
    with torch.device("meta"):
        network = type(loaded.vae)() if config is None else type(loaded.vae).from_config(dict(config))
    with quiet_libraries():
        network.to(loaded.dtype).requires_grad_(False).eval()
    codec = replace(loaded, vae=network, device=torch.device("meta")).codec()
    width, height = size
    latent = torch.empty((1, frames, codec.latent_channels, height // codec.factor, width // codec.factor), device="meta")

    def encode(*, first: bool = False) -> Tensor:
        pictures = _picture_count(codec, frames, first=first)
        return codec.encode(torch.empty((1, pictures, 3, height, width), device="meta", dtype=loaded.dtype))

    for first in (True, False):
        encode(first=first)
        codec.decode(latent)
    return CodecWork(_counted(encode), _counted(lambda: codec.decode(latent)), sum(tensor.nbytes for tensor in codec.memory))


def _picture_count(codec: VideoCodec, frames: int, *, first: bool) -> int:
    return picture_count(frames, first=first, pictures_per_latent=codec.pictures_per_latent)


def _counted(work: Callable[[], object]) -> Work:
    traffic = _ConvolutionBytes()
    with FlopCounterMode(display=False) as counter, traffic:
        work()
    return Work(float(counter.get_total_flops()), float(traffic.bytes))


class _ConvolutionBytes(TorchDispatchMode):
    """Bytes of what convolutions read and write, each once."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default:
            self.bytes += args[0].nbytes + args[1].nbytes + out.nbytes
        return out
