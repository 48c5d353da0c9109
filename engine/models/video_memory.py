"""What a video model holds on a GPU at 832x480 in half precision: reckoned from its shape, fitted to measured runs of the 1.3B. No torch.

The measured runs are docs/benchmarks/gpu_video_1.3b_480x832.json (most that was allocated, NVIDIA H200, random weights). Everything of
the 14B is reckoned from them and has not been measured. Not counted: the text encoder, which goes to the CPU where it has no room
(video_text.py), the driver's own memory and other programs'.
"""

from __future__ import annotations

import math

from engine.models.video_policies import SHAPES, VideoPolicies, WanShape

TEXT_ENCODER_GB = 11.4
"""umT5-XXL in bfloat16: its weights, on the GPU while a prompt is encoded there and in the machine's memory otherwise."""
OWN_AUTOENCODER_GB = 6.2
"""What Wan's own autoencoder holds more than TAEHV, its session included."""

_FRAME_TOKENS = (832 // 16) * (480 // 16)
_MEASURED_WIDTH = SHAPES["wan-1.3b"].width
_WORK_GB, _FRAME_GB, _CALL_GB = 1.8, 0.4, 0.25
"""Work of one call of one latent frame with TAEHV; each latent frame more in it; each further call's captured graph."""


def weights_gb(shape: WanShape) -> float:
    """The transformer's weights: two bytes a number; biases, norms and modulation are within the rounding."""
    w, f = shape.width, shape.ffn_dim
    block = 8 * w * w + 2 * w * f
    ends = shape.text_dim * w + shape.freq_dim * w + 8 * w * w + 8 * shape.channels * w
    return 2e-9 * (shape.layers * block + ends)


def cache_gb(shape: WanShape, window: int) -> float:
    """One row of the KV cache: keys and values of `window` latent frames in every layer."""
    return 2e-9 * 2 * shape.layers * window * _FRAME_TOKENS * shape.width


def held_gb(policies: VideoPolicies, *, steps: int, rows: int = 1, own_autoencoder: bool = False) -> float:
    """The most that is allocated. rows: of the cache, `steps` in a stream batch and 1 otherwise.

    ValueError for a model whose shape is not named.
    """
    if policies.shape not in SHAPES:
        raise ValueError(f"the memory of a model of unknown shape ({policies.shape!r}) cannot be reckoned")
    shape = SHAPES[policies.shape]
    calls = 1 if rows > 1 else steps + (policies.scheduler == "clean_rerun") + (policies.cache == "recompute")
    frames = max(policies.frames, policies.context) * rows
    work = (_WORK_GB + _FRAME_GB * (frames - 1) + _CALL_GB * (calls - 1)) * shape.width / _MEASURED_WIDTH
    codec = OWN_AUTOENCODER_GB if own_autoencoder else 0.0
    return weights_gb(shape) + rows * cache_gb(shape, policies.window) + work + codec


def whole_gb(policies: VideoPolicies, steps: int) -> float:
    """`held_gb` as a model opens, one row and TAEHV, rounded up to whole GB."""
    return float(math.ceil(held_gb(policies, steps=steps)))
