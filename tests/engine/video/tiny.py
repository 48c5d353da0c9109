"""A tiny causal video transformer with random weights, and rollouts over it."""

from __future__ import annotations

from functools import cache

import torch
from diffusers import WanTransformer3DModel
from torch import Tensor

from engine.models.video_denoiser import VideoDenoiser
from engine.video.cache_policies import CachePolicy
from engine.video.positions import CacheRelativePositions, PositionPolicy
from engine.video.rollout import Prompt, Rollout
from engine.video.schedule import FlowGrid, Levels
from engine.video.schedulers import Chunk

CPU = torch.device("cpu")
CHANNELS, SIDE, TEXT = 4, 4, 8
GRID = FlowGrid(8.0)


@cache
def model(layers: int = 2) -> WanTransformer3DModel:
    """2 heads of 12 channels, 4 tokens a frame of 4 x 4. Weights are the same every time."""
    torch.manual_seed(0)
    made = WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=CHANNELS, out_channels=CHANNELS, text_dim=TEXT, freq_dim=16,
        ffn_dim=32, num_layers=layers,
    )  # fmt: skip
    return made.eval().requires_grad_(False)


def network(layers: int = 2) -> VideoDenoiser:
    """The network of a rollout."""
    return VideoDenoiser(model(layers))


def prompt(seed: int = 0, net: VideoDenoiser | None = None) -> Prompt:
    """An encoded prompt of 5 tokens."""
    return (net or network()).prompt(prompt_tokens(seed))


def prompt_tokens(seed: int = 0) -> Tensor:
    """What a text encoder would give, [1, 5, 8]."""
    return torch.randn((1, 5, TEXT), generator=torch.Generator().manual_seed(1000 + seed))


def latent(seed: int, frames: int = 1) -> Tensor:
    """Noise [1, F, C, h, w] of a seed."""
    return torch.randn((1, frames, CHANNELS, SIDE, SIDE), generator=torch.Generator().manual_seed(seed))


def rollout(
    policy: CachePolicy, positions: PositionPolicy | None = None, *, layers: int = 2, rows: int = 1, scratch: int = 0, history: int = 0
) -> Rollout:
    """A rollout over the tiny network."""
    net = network(layers)
    return Rollout(
        net,
        lambda wanted: net.make_cache(SIDE, SIDE, policy=policy, rows=wanted, scratch=scratch),
        policy=policy,
        positions=positions or CacheRelativePositions(),
        rope=net.rope(SIDE, SIDE),
        rows=rows,
        scratch=scratch,
        history=history,
    )


def levels(*timesteps: float) -> Levels:
    """Levels of explicit timesteps on the shifted grid."""
    return GRID.levels(timesteps or (700.0, 500.0), CPU)


def chunk(run: Rollout, seed: int, *, frames: int = 1, steps: Levels | None = None, told: Prompt | None = None, tag: int = 0) -> Chunk:
    """A chunk of noise, its later noise drawn from the same seed."""
    steps = steps or levels()
    later = torch.cat([latent(10_000 + 17 * seed + i, frames) for i in range(1, len(steps))] or [latent(0, frames)[:0]])
    return Chunk(latent(seed, frames), steps, later, run.positions.advance(frames), told or prompt(), tag=tag or seed)
