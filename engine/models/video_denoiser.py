"""diffusers' WanTransformer3DModel as the network of a video stream: latents, timesteps, prompts and a way through the KV cache in,
velocity out.

The model's own modules do the work; attention gets the processors of video_attention.py. It can run a part of the layers, for a
ring of ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engine.gpu.graphs import GraphedCalls
from engine.models.compiled_blocks import are_compiled, compiler_of
from engine.models.video_attention import CachedAttention, PromptAttention, untraced
from engine.video.cache_policies import CachePolicy
from engine.video.kv_cache import CacheAccess, CacheShape, KVCache
from engine.video.positions import Rope


@dataclass(frozen=True, eq=False, slots=True)
class PromptKeysValues:
    """A prompt's share of every cross-attention layer: pairs [1, L, H, D]. Computed once a prompt."""

    pairs: tuple[tuple[Tensor, Tensor], ...]


class VideoDenoiser:
    """An engine.video.rollout.Network over blocks [first, last) of a WanTransformer3DModel, all of them if not told.

    cuda_graph: capture one graph for each way a call branches. If the model's blocks are compiled, so is what is done beside them.
    """

    def __init__(self, model: Any, *, blocks: tuple[int, int] | None = None, cuda_graph: bool = False) -> None:
        first, last = blocks or (0, len(model.blocks))
        self._model = model
        self._blocks: Sequence[nn.Module] = model.blocks[first:last]
        self.first, self.last = first, last
        self._graphs = GraphedCalls(enabled=cuda_graph)
        self._joined: tuple[tuple[object, ...], list[Tensor]] = ((), [])
        self._through = compiler_of(model)
        cached, prompted = (untraced(kind) if are_compiled(model) else kind for kind in (CachedAttention, PromptAttention))
        for layer, block in enumerate(self._blocks):
            block.attn1.set_processor(cached(layer, self._through))
            block.attn2.set_processor(prompted(layer, self._through))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._model.patch_embedding.weight.device  # type: ignore[no-any-return]

    @property
    def dtype(self) -> torch.dtype:
        """Their precision."""
        return self._model.patch_embedding.weight.dtype  # type: ignore[no-any-return]

    def tokens(self, height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of tokens of a latent of height x width."""
        _, rows, columns = self._model.config.patch_size
        return height // rows, width // columns

    def rope(self, height: int, width: int) -> Rope:
        """The rotary embedding of a latent of height x width."""
        rows, columns = self.tokens(height, width)
        return Rope(
            self._model.config.attention_head_dim, height=rows, width=columns, device=self.device, through=self._through
        )

    def make_cache(self, height: int, width: int, *, policy: CachePolicy, rows: int, scratch: int = 0) -> KVCache:
        """An empty cache for these blocks and latents of height x width."""
        rows_of_tokens, columns = self.tokens(height, width)
        config = self._model.config
        shape = CacheShape(
            layers=self.last - self.first,
            slots=policy.slots + scratch,
            tokens=rows_of_tokens * columns,
            heads=config.num_attention_heads,
            head_dim=config.attention_head_dim,
        )
        return KVCache(
            shape, rows=rows, device=self.device, dtype=self.dtype, per_layer=policy.per_layer, queries=policy.wants_queries,
            through=self._through,
        )  # fmt: skip

    @torch.inference_mode()
    def prompt(self, tokens: Tensor) -> PromptKeysValues:
        """The text encoder's output [1, L, width] as keys and values of these blocks."""
        text = self._model.condition_embedder.text_embedder(tokens.to(self.device, self.dtype))
        pairs = []
        for block in self._blocks:
            attn: Any = block.attn2
            key, value = attn.norm_k(attn.to_k(text)), attn.to_v(text)
            pairs.append((key.unflatten(2, (attn.heads, -1)), value.unflatten(2, (attn.heads, -1))))
        return PromptKeysValues(tuple(pairs))

    def __call__(self, x: Tensor, timesteps: Tensor, prompts: Sequence[object], access: CacheAccess) -> Tensor:
        """Velocity float32 [B, F, C, h, w] of x [B, F, C, h, w] at timesteps [B] or [B, F]. Needs all blocks."""
        key = (access.key, access.cache.serial, tuple(x.shape), timesteps.ndim)
        inputs = {"x": x, "timesteps": timesteps, **access.tensors}
        return self._graphs(key, lambda tensors, pairs: self._run(tensors, pairs, access), inputs, self._told(prompts))["velocity"]

    def _told(self, prompts: Sequence[object]) -> list[Tensor]:
        """The same tensors as long as the prompts are the same, so that a graph need not be told them again."""
        known, _ = self._joined
        if len(known) != len(prompts) or any(a is not b for a, b in zip(known, prompts, strict=True)):
            self._joined = (tuple(prompts), joined_prompts(prompts))
        return self._joined[1]

    def _run(self, tensors: Mapping[str, Tensor], prompt: Sequence[Tensor], access: CacheAccess) -> dict[str, Tensor]:
        through = access.with_tensors({name: tensors[name] for name in access.tensors})
        hidden = self.embed(tensors["x"])
        times, modulation = self.time(tensors["timesteps"], access.cache.shape.tokens)
        hidden = self.through_blocks(hidden, modulation, prompt, through)
        return {"velocity": self.head(hidden, times, tensors["x"])}

    def embed(self, x: Tensor) -> Tensor:
        """Latents [B, F, C, h, w] to tokens [B, F T, width]."""
        hidden: Tensor = self._model.patch_embedding(x.transpose(1, 2).to(self.dtype))
        return hidden.flatten(2).transpose(1, 2).contiguous()

    def time(self, timesteps: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
        """Timesteps [B] to their embedding [B, width] and the blocks' modulation [B, 6, width]; [B, F] to [B, F T, ...]."""
        embedder = self._model.condition_embedder
        projected = embedder.timesteps_proj(timesteps.flatten())
        weight = embedder.time_embedder.linear_1.weight
        times: Tensor = embedder.time_embedder(projected.to(weight.dtype)).to(self.dtype)
        modulation: Tensor = embedder.time_proj(embedder.act_fn(times)).unflatten(1, (6, -1))
        if timesteps.ndim == 1:
            return times, modulation
        return tuple(t.unflatten(0, timesteps.shape).repeat_interleave(tokens, dim=1) for t in (times, modulation))  # type: ignore[return-value]

    def through_blocks(self, hidden: Tensor, modulation: Tensor, prompt: Sequence[Tensor], access: CacheAccess) -> Tensor:
        """Tokens [B, F T, width] through these blocks. prompt: keys and values in turn, as `joined_prompts` gives them."""
        pairs = tuple(zip(prompt[::2], prompt[1::2], strict=True))
        for block in self._blocks:
            hidden = block(hidden, pairs, modulation, access)
        return hidden

    def head(self, hidden: Tensor, times: Tensor, like: Tensor) -> Tensor:
        """Tokens to velocity, float32 of the shape of `like` [B, F, C, h, w]. times: as `time` gives them."""
        model = self._model
        table = model.scale_shift_table
        shift, scale = (table + times.unsqueeze(-2)).chunk(2, dim=-2)
        if times.ndim == 3:
            shift, scale = shift.squeeze(2), scale.squeeze(2)
        out = model.proj_out((model.norm_out(hidden.float()) * (1 + scale) + shift).to(hidden.dtype))
        (rows, columns), (_, high, wide) = self.tokens(*like.shape[-2:]), model.config.patch_size
        patches = out.unflatten(1, (like.shape[1], rows, columns)).unflatten(-1, (high, wide, -1))
        return patches.permute(0, 1, 6, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4).float()  # type: ignore[no-any-return]


def joined_prompts(prompts: Sequence[object]) -> list[Tensor]:
    """Keys and values in turn, layer by layer, a row a prompt; rows that share a prompt share its memory."""
    given = [prompt for prompt in prompts if isinstance(prompt, PromptKeysValues)]
    if len(given) < len(prompts):
        raise TypeError("the prompts of a video denoiser are what its `prompt` makes")
    alone = all(prompt is given[0] for prompt in given)
    joined = []
    for layer in range(len(given[0].pairs)):
        for part in (0, 1):
            if alone:
                joined.append(given[0].pairs[layer][part].expand(len(given), -1, -1, -1))
            else:
                joined.append(torch.cat([prompt.pairs[layer][part] for prompt in given]))
    return joined



