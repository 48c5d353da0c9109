"""The transformer, and its call for a whole clip at once: frames attend to what the cache of the running stream would hold.

The stream keeps, for every frame, the keys and values of its last denoising step (`sequential`), and a window of them. One pass over a
clip, chunk after chunk within each layer, computes the same numbers, with gradients.
"""

from typing import Any

import torch
from diffusers import WanTransformer3DModel
from torch import Tensor

from engine.models.video_denoiser import VideoDenoiser
from engine.video.positions import Rope, turned

WINDOW = 6  # latent frames that attention sees, the frame's own chunk among them


def new_transformer(
    *, channels: int, width: int = 160, heads: int = 4, layers: int = 6, hidden: int = 480, text: int = 192
) -> WanTransformer3DModel:
    """A small Wan transformer: patches of 1x2x2 latent elements."""
    return WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=heads, attention_head_dim=width // heads, in_channels=channels, out_channels=channels,
        text_dim=text, freq_dim=128, ffn_dim=hidden, num_layers=layers, cross_attn_norm=True, qk_norm="rms_norm_across_heads", eps=1e-6,
        rope_max_seq_len=64,
    )  # fmt: skip


def seen(frames: int, *, chunk: int, window: int = WINDOW) -> list[tuple[int, int, int]]:
    """(first, last, from) of every chunk: its frames [first, last) see the frames [from, last)."""
    borders = [(first, min(first + chunk, frames)) for first in range(0, frames, chunk)]
    return [(first, last, max(0, last - window)) for first, last in borders]


def attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D)) v over [B, N, H, D]. Written out: on CPUs its gradient is twice as fast as the fused kernel's."""
    q, k, v = (tensor.transpose(1, 2) for tensor in (query, key, value))
    weights = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2)).softmax(dim=-1)
    return torch.matmul(weights.to(v.dtype), v).transpose(1, 2)


class ClipRope:
    """The rotary embedding of all tokens of a clip in one turn: the product of Rope's turns by space and by time."""

    def __init__(self, rope: Rope, *, frames: int) -> None:
        places = torch.arange(frames, dtype=torch.float64)[None]
        self._turns = rope.with_space(rope.turns(places))[:, 0].flatten(1, 2)

    def __call__(self, x: Tensor) -> Tensor:
        """Turn x [B, F T, H, D]."""
        return turned(x, self._turns)


class ClipAttention:
    """Self-attention over a clip; `rotary_emb` brings (ClipRope, chunks as `seen` lists them)."""

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Any, attention_mask: Any, rotary_emb: Any) -> Tensor:
        """hidden_states [B, F T, width] to the same shape."""
        rope, chunks = rotary_emb
        query, key = attn.norm_q(attn.to_q(hidden_states)), attn.norm_k(attn.to_k(hidden_states))
        query, key, value = (tensor.unflatten(2, (attn.heads, -1)) for tensor in (query, key, attn.to_v(hidden_states)))
        query, key = rope(query).to(value.dtype), rope(key).to(value.dtype)
        tokens = query.shape[1] // chunks[-1][1]
        parts = []
        for first, last, begin in chunks:
            asking, known = slice(first * tokens, last * tokens), slice(begin * tokens, last * tokens)
            parts.append(attended(query[:, asking], key[:, known], value[:, known]))
        return attn.to_out[1](attn.to_out[0](torch.cat(parts, dim=1).flatten(2, 3)))  # type: ignore[no-any-return]


class ClipPrompts:
    """Cross-attention where the prompt may change within a clip: `encoder_hidden_states` brings, for every layer, keys and values
    [B, P, L, H, D] of one or two prompts, and which tokens [B, F T] see the second."""

    def __init__(self, layer: int) -> None:
        self._layer = layer

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Any, attention_mask: Any, rotary_emb: Any) -> Tensor:
        """hidden_states [B, F T, width] to the same shape."""
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))
        keys, values, second = encoder_hidden_states[self._layer]
        out = attended(query, keys[:, 0].to(query.dtype), values[:, 0])
        if keys.shape[1] > 1:
            out = torch.where(second[:, :, None, None], attended(query, keys[:, 1].to(query.dtype), values[:, 1]), out)
        return attn.to_out[1](attn.to_out[0](out.flatten(2, 3)))  # type: ignore[no-any-return]


class ClipDenoiser:
    """A transformer over whole clips, with gradients. Sets the attention of the transformer; VideoDenoiser sets its own again."""

    def __init__(self, transformer: WanTransformer3DModel, *, side: int, frames: int) -> None:
        self.transformer = transformer
        self._parts = VideoDenoiser(transformer)
        rows, columns = self._parts.tokens(side, side)
        self._tokens, self._frames = rows * columns, frames
        self._rope = ClipRope(self._parts.rope(side, side), frames=frames)
        for layer, block in enumerate(transformer.blocks):
            block.attn1.set_processor(ClipAttention())
            block.attn2.set_processor(ClipPrompts(layer))

    def __call__(self, x: Tensor, timesteps: Tensor, prompts: Tensor, second: Tensor, *, chunk: int) -> Tensor:
        """Velocity of x [B, F, C, h, w] at timesteps [B, F], in chunks of `chunk` frames.

        prompts: [B, P, L, D], one or two a clip. second: bool [B, F], frames that see the second.
        """
        parts, way = self._parts, (self._rope, seen(self._frames, chunk=chunk))
        hidden = parts.embed(x)
        times, modulation = parts.time(timesteps, self._tokens)
        told = self._prompts(prompts, second.repeat_interleave(self._tokens, dim=1))
        for block in self.transformer.blocks:
            hidden = block(hidden, told, modulation, way)
        return parts.head(hidden, times, x)

    def _prompts(self, prompts: Tensor, second: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        text = self.transformer.condition_embedder.text_embedder(prompts)
        pairs = []
        for block in self.transformer.blocks:
            attn = block.attn2
            key, value = (tensor.unflatten(-1, (attn.heads, -1)) for tensor in (attn.norm_k(attn.to_k(text)), attn.to_v(text)))
            pairs.append((key, value, second))
        return pairs
