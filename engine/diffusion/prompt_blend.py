"""Mixing prompt embeddings: weighted sum or along the sphere, and the course of a cross-fade."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Blend = Literal["linear", "slerp"]

PARALLEL = 1e-4
"""Angle in radians below which two embeddings count as parallel and a straight line is taken."""


def blend(embeddings: Sequence[Tensor], weights: Sequence[float], method: Blend) -> Tensor:
    """Mix embeddings of equal shape with weights that need not sum to 1 (all zero: equal shares).

    linear: sum of w E. slerp: folded pairwise in order of falling weight, each pair along the sphere.
    """
    total = sum(weights)
    shares = [w / total for w in weights] if total > 0 else [1.0 / len(weights)] * len(weights)
    if method == "linear":
        return torch.stack([w * e for w, e in zip(shares, embeddings, strict=True)]).sum(0)
    order = sorted(range(len(shares)), key=lambda i: -shares[i])
    mixed, weight = embeddings[order[0]], shares[order[0]]
    for i in order[1:]:
        weight += shares[i]
        mixed = slerp(mixed, embeddings[i], shares[i] / weight if weight > 0 else 0.0)
    return mixed


def slerp(start: Tensor, end: Tensor, share: float) -> Tensor:
    """Between two embeddings along the sphere (Shoemake 1985), token by token; the length goes evenly from one to the other."""
    length_start, length_end = start.norm(dim=-1, keepdim=True), end.norm(dim=-1, keepdim=True)
    unit_start = start / length_start.clamp_min(1e-12)
    unit_end = end / length_end.clamp_min(1e-12)
    angle = torch.acos((unit_start * unit_end).sum(-1, keepdim=True).clamp(-1.0, 1.0))
    sine = torch.sin(angle).clamp_min(1e-12)
    curved = torch.sin((1 - share) * angle) / sine * unit_start + torch.sin(share * angle) / sine * unit_end
    straight = torch.lerp(unit_start, unit_end, share)
    # Opposite or parallel directions have no single shortest way: the straight line is as good and never divides by 0.
    direction = torch.where((angle < PARALLEL) | (angle > torch.pi - PARALLEL), straight, curved)
    return direction * torch.lerp(length_start, length_end, share)


def fade_share(elapsed_seconds: float, fade_seconds: float) -> float:
    """How much of the new prompt shows, 0..1: a straight course; a fade of 0 seconds is over at once."""
    return 1.0 if fade_seconds <= 0 else min(max(elapsed_seconds / fade_seconds, 0.0), 1.0)
