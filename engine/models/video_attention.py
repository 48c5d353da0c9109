"""The attention of a causal video transformer as diffusers' attention processors: over the KV cache, and to a prompt's keys and values.

What is done to tensors alone is in functions that may be compiled; the way through the cache is never traced.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from torch import Tensor

from engine.models.linears import shared_input
from engine.video.kv_cache import CacheAccess
from engine.video.through import Through, as_is


def projected(attn: Any, hidden: Tensor) -> tuple[Tensor, ...]:
    """Query, key and value [B, N, H, D] of tokens [B, N, width]."""
    hidden = shared_input(hidden, attn.to_q, attn.to_k, attn.to_v)
    query, key = attn.norm_q(attn.to_q(hidden)), attn.norm_k(attn.to_k(hidden))
    return tuple(tensor.unflatten(2, (attn.heads, -1)) for tensor in (query, key, attn.to_v(hidden)))


def asked(attn: Any, hidden: Tensor) -> Tensor:
    """The query [B, N, H, D] of tokens [B, N, width]."""
    query: Tensor = attn.norm_q(attn.to_q(hidden)).unflatten(2, (attn.heads, -1))
    return query


def brought_out(attn: Any, attended: Tensor) -> Tensor:
    """What was attended to [B, N, H, D] as tokens [B, N, width]."""
    tokens: Tensor = attn.to_out[1](attn.to_out[0](attended.flatten(2, 3)))
    return tokens


class CachedAttention:
    """Self-attention over the cache. layer: among those that the cache holds. `rotary_emb` brings the call's CacheAccess."""

    def __init__(self, layer: int, through: Through = as_is) -> None:
        self._layer = layer
        self._projected, self._brought_out = through(projected), through(brought_out)

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: CacheAccess | None = None,
    ) -> Tensor:
        """hidden_states [B, F T, width] to the same shape."""
        assert rotary_emb is not None
        query, keys, values, mask = rotary_emb.layer(self._layer, *self._projected(attn, hidden_states))
        return self._brought_out(attn, dispatch_attention_fn(query, keys, values, attn_mask=mask))


class PromptAttention:
    """Cross-attention to keys and values that are there already. `encoder_hidden_states` brings them for every layer."""

    def __init__(self, layer: int, through: Through = as_is) -> None:
        self._layer = layer
        self._asked, self._brought_out = through(asked), through(brought_out)

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Sequence[tuple[Tensor, Tensor]] = (),
        attention_mask: Tensor | None = None,
        rotary_emb: None = None,
    ) -> Tensor:
        """hidden_states [B, F T, width] to the same shape."""
        query = self._asked(attn, hidden_states)
        keys, values = encoder_hidden_states[self._layer]
        return self._brought_out(attn, dispatch_attention_fn(query, keys.to(query.dtype), values.to(query.dtype)))


@functools.cache
def untraced(kind: type) -> Any:
    """The same kind of attention, which torch.compile calls as it is where it comes upon it."""
    return type(kind.__name__, (kind,), {"__call__": torch.compiler.disable(kind.__call__)})  # type: ignore[operator]
