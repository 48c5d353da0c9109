"""The layers of a rollout's cache, taken apart and put together, for blocks that move from rank to rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from engine.video.kv_cache import KVCache
from engine.video.rollout import Rollout

LayerTensors = dict[str, Tensor]
"""By name, the share of one layer: what the cache holds of it, and what a policy that chooses layer by layer knows of it."""


def layers_of(rollout: Rollout) -> list[LayerTensors]:
    """One entry a layer of this rank."""
    tensors = _tensors(rollout)
    return [{name: tensor[layer] for name, tensor in tensors.items()} for layer in range(rollout.cache.shape.layers)]


def put_layers(rollout: Rollout, layers: Sequence[LayerTensors]) -> None:
    """The rollout goes on with these layers, which other ranks' rollouts at the same chunk gave."""
    old = rollout.cache
    policy_names = _policy_names(rollout)
    joined = {name: torch.stack([layer[name] for layer in layers]) for name in layers[0]}
    cache = KVCache(replace(old.shape, layers=len(layers)), rows=old.rows, device=old.device, dtype=old.keys.dtype, per_layer=old.per_layer)
    cache.keys, cache.values, cache.queries = joined["keys"], joined["values"], joined.get("queries")
    cache.written = joined.get("written", old.written)
    rollout.cache = cache
    for name in policy_names:
        setattr(rollout.policy, name, joined[f"policy {name}"])


def _tensors(rollout: Rollout) -> Mapping[str, Tensor]:
    cache = rollout.cache
    tensors = {"keys": cache.keys, "values": cache.values}
    if cache.queries is not None:
        tensors["queries"] = cache.queries
    if cache.per_layer:
        tensors["written"] = cache.written
    return tensors | {f"policy {name}": getattr(rollout.policy, name) for name in _policy_names(rollout)}


def _policy_names(rollout: Rollout) -> list[str]:
    """Attributes of the policy that are tensors [L, B, ...]: what it knows of every layer and row."""
    if not rollout.cache.per_layer:
        return []
    lead = (rollout.cache.shape.layers, rollout.cache.rows)
    return sorted(name for name, value in vars(rollout.policy).items() if isinstance(value, Tensor) and tuple(value.shape[:2]) == lead)
