"""Attention of a UNet as a stream needs it: prompt keys and values computed once a prompt, frames that attend to each other.

Both are processors in diffusers' sense; the weights, norms and shapes stay diffusers' own `Attention`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

KeysValues = tuple[tuple[Tensor, Tensor], ...]
"""Projected keys and values of a prompt, a pair [N, L, inner] for each cross-attention layer in the UNet's order."""


class StreamAttention:
    """Scaled dot-product attention (as diffusers' AttnProcessor2_0) with the two extras of a stream.

    layer: place in `prompt_kv` for a cross-attention layer, None for self-attention.
    """

    def __init__(self, layer: int | None) -> None:
        self.layer = layer

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        prompt_kv: KeysValues | None = None,
        frame_groups: tuple[int, ...] | None = None,
    ) -> Tensor:
        """hidden_states [N, T, D] or [N, D, H, W] to the same shape.

        prompt_kv: keys and values of the prompt rows, replacing their projection in cross-attention.
        frame_groups: sizes of groups of consecutive rows that attend to each other in self-attention.
        """
        residual = hidden_states
        spatial = hidden_states.ndim == 4
        if attn.spatial_norm is not None:
            hidden_states = attn.spatial_norm(hidden_states, temb)
        if spatial:
            rows, channels, height, width = hidden_states.shape
            hidden_states = hidden_states.view(rows, channels, height * width).transpose(1, 2)
        if attn.group_norm is not None:
            hidden_states = attn.group_norm(hidden_states.transpose(1, 2)).transpose(1, 2)
        query = attn.to_q(hidden_states)
        if self.layer is not None and prompt_kv is not None:
            key, value = prompt_kv[self.layer]
        else:
            key, value = _project(attn, hidden_states if encoder_hidden_states is None else encoder_hidden_states)
            if self.layer is None and frame_groups is not None:
                key, value = _joined(key, frame_groups), _joined(value, frame_groups)
        out = _attend(attn, query, key, value)
        out = attn.to_out[1](attn.to_out[0](out))
        if spatial:
            out = out.transpose(1, 2).reshape(rows, channels, height, width)
        if attn.residual_connection:
            out = out + residual
        scaled: Tensor = out / attn.rescale_output_factor
        return scaled


def _project(attn: Attention, states: Tensor) -> tuple[Tensor, Tensor]:
    if attn.norm_cross:
        states = attn.norm_encoder_hidden_states(states)
    return attn.to_k(states), attn.to_v(states)


def _joined(states: Tensor, groups: Sequence[int]) -> Tensor:
    """[N, T, D] to [N, T', D]: every row of a group gets the tokens of the whole group (Kodaira et al. 2025).

    A smaller group is brought to the length of the largest by repeating it whole, which leaves its softmax as it was; so the
    largest size must be a multiple of every size (`joinable`).
    """
    largest = max(groups)
    parts, start = [], 0
    for size in groups:
        rows = states[start : start + size]
        start += size
        tokens = rows.reshape(1, -1, rows.shape[-1])
        parts.append(tokens.repeat(1, largest // size, 1).expand(size, -1, -1))
    return torch.cat(parts)


def _attend(attn: Attention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    rows, _, inner = key.shape
    head = inner // attn.heads

    def heads(states: Tensor) -> Tensor:
        return states.view(rows, -1, attn.heads, head).transpose(1, 2)

    query, key = heads(query), heads(key)
    if attn.norm_q is not None:
        query = attn.norm_q(query)
    if attn.norm_k is not None:
        key = attn.norm_k(key)
    out = F.scaled_dot_product_attention(query, key, heads(value), scale=attn.scale)
    return out.transpose(1, 2).reshape(rows, -1, inner).to(query.dtype)


def install(unet: nn.Module) -> list[Attention]:
    """Give every attention layer of `unet` its StreamAttention; the cross-attention layers, in the order of `prompt_kv`."""
    crossing: list[Attention] = []
    for name, module in unet.named_modules():
        if not isinstance(module, Attention):
            continue
        if name.endswith("attn2"):
            module.set_processor(StreamAttention(layer=len(crossing)))
            crossing.append(module)
        else:
            module.set_processor(StreamAttention(layer=None))
    return crossing


def project_prompt(crossing: Sequence[Attention], tokens: Tensor) -> KeysValues:
    """Keys and values of prompt tokens [N, L, D] for every cross-attention layer."""
    return tuple(_project(attn, tokens) for attn in crossing)


def joinable(groups: Sequence[int]) -> bool:
    """Whether rows in groups of these sizes can attend to each other: the largest is a multiple of each."""
    return max(groups) > 1 and all(max(groups) % size == 0 for size in groups)
