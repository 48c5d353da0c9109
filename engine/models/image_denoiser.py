"""A diffusers UNet as the network of an image stream: noisy latents, timesteps and conditioning in, its prediction out."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engine.diffusion.prediction import Prediction
from engine.models.attention import KeysValues, install, project_prompt
from engine.models.text_encoder import PromptEmbedding, sdxl_time_ids
from engine.models.weights import LoadedModel
from engine.runtimes.runtime import NO_OPTIONS, Runtime, TorchRuntime

CONSISTENCY_GUIDANCE = 8.5
"""Guidance scale that distilled consistency models are told through their timestep (Luo et al. 2023, section 4.2)."""


KEPT_CALLS = 8
KEPT_PROMPTS = 32


@dataclass(frozen=True, eq=False, slots=True)
class Conditioning:
    """What the network is told beside latent and timestep, a row each; tensors only, so that a captured graph can hold it.

    tokens [N, L, D]; pooled [N, P] and time_ids [N, 6] for SDXL; keys_values: the prompt's share of every cross-attention.
    """

    tokens: Tensor
    pooled: Tensor | None
    time_ids: Tensor | None
    keys_values: KeysValues | None

    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors, always in the same order."""
        found = [t for t in (self.tokens, self.pooled, self.time_ids) if t is not None]
        return (*found, *(t for pair in self.keys_values or () for t in pair))

    def with_tensors(self, tensors: Sequence[Tensor]) -> Conditioning:
        """The same with other tensors, given in the order of `tensors`."""
        rest = iter(tensors)
        tokens = next(rest)
        pooled = None if self.pooled is None else next(rest)
        time_ids = None if self.time_ids is None else next(rest)
        pairs = None if self.keys_values is None else tuple((next(rest), next(rest)) for _ in self.keys_values)
        return Conditioning(tokens=tokens, pooled=pooled, time_ids=time_ids, keys_values=pairs)


class DenoiserNetwork(nn.Module):
    """The UNet as a function of tensors alone, so that whatever runs networks can run it."""

    def __init__(self, loaded: LoadedModel, *, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.unet = loaded.unet
        self._sdxl = loaded.is_sdxl
        self._channels_last = device.type != "mps"
        width = loaded.guidance_embedding_dim
        embedding = None if width is None else guidance_embedding(CONSISTENCY_GUIDANCE, width).to(device, dtype)
        self.guidance_embedding: Tensor | None
        self.register_buffer("guidance_embedding", embedding, persistent=False)

    def forward(self, x: Tensor, timesteps: Tensor, *told: Tensor, frame_groups: tuple[int, ...] | None = None) -> Tensor:
        """x [N, C, h, w] and timesteps [N] to float32 [N, C', h, w]. told: as Conditioning.tensors gives them."""
        tokens, pooled = told[0], told[1:3] if self._sdxl else ()
        pairs = told[1 + len(pooled) :]
        x = x.to(self.unet.conv_in.weight.dtype)
        if self._channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        extra: dict[str, object] = {}
        if pairs:
            extra["prompt_kv"] = tuple(zip(pairs[::2], pairs[1::2], strict=True))
        if frame_groups is not None:
            extra["frame_groups"] = frame_groups
        guidance = self.guidance_embedding
        output: Tensor = self.unet(
            x,
            timesteps,
            encoder_hidden_states=tokens,
            timestep_cond=None if guidance is None else guidance.expand(x.shape[0], -1),
            added_cond_kwargs=dict(zip(("text_embeds", "time_ids"), pooled, strict=True)) if pooled else None,
            cross_attention_kwargs=extra or None,
            return_dict=False,
        )[0]
        return output.float()


class ImageDenoiser:
    """One contract for every UNet of diffusers: SD 1.x, 2.x, SDXL, LCM, InstructPix2Pix layouts.

    prediction: what the output means. image_conditioned: the network wants the clean latent of the input beside the noisy one.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        device: torch.device,
        dtype: torch.dtype,
        cache_prompt: bool = True,
        runtime: Runtime | None = None,
    ) -> None:
        self.prediction: Prediction = loaded.prediction
        self.image_conditioned = loaded.image_conditioned
        self.device, self.dtype = device, dtype
        self._sdxl = loaded.is_sdxl
        self._cache_prompt = cache_prompt
        self._crossing = install(loaded.unet)
        self._network = DenoiserNetwork(loaded, device=device, dtype=dtype)
        self._runtime = runtime or TorchRuntime()
        self._conditionings: OrderedDict[tuple[int, ...], tuple[Conditioning, Sequence[PromptEmbedding]]] = OrderedDict()
        self._projected: OrderedDict[int, tuple[KeysValues, PromptEmbedding]] = OrderedDict()
        self._time_ids: dict[tuple[int, int], Tensor] = {}

    @torch.inference_mode()
    def condition(self, prompts: Sequence[PromptEmbedding], *, height: int, width: int) -> Conditioning:
        """The conditioning of a call whose network rows have these prompts, at a picture of height x width pixels.

        Kept for the last few calls: as long as the prompts stay the same objects nothing is computed.
        """
        key = (*map(id, prompts), height, width)
        known = self._conditionings.get(key)
        if known is None:
            known = (self._make_conditioning(prompts, height, width), tuple(prompts))
            self._conditionings[key] = known
            while len(self._conditionings) > KEPT_CALLS:
                self._conditionings.popitem(last=False)
        self._conditionings.move_to_end(key)
        return known[0]

    def _make_conditioning(self, prompts: Sequence[PromptEmbedding], height: int, width: int) -> Conditioning:
        tokens = torch.cat([p.tokens for p in prompts]).to(self.device, self.dtype)
        pooled = time_ids = None
        if self._sdxl:
            pooled = torch.cat([p.pooled for p in prompts if p.pooled is not None]).to(self.device, self.dtype)
            if (height, width) not in self._time_ids:
                self._time_ids[height, width] = sdxl_time_ids(height, width).to(self.device, self.dtype)
            time_ids = self._time_ids[height, width].expand(len(prompts), -1)
        keys_values = self._keys_values(prompts) if self._cache_prompt else None
        return Conditioning(tokens=tokens, pooled=pooled, time_ids=time_ids, keys_values=keys_values)

    def _keys_values(self, prompts: Sequence[PromptEmbedding]) -> KeysValues:
        """A row a prompt; each prompt is projected once, however many rows and calls it stands in."""
        rows = []
        for prompt in prompts:
            if id(prompt) not in self._projected:
                tokens = prompt.tokens.to(self.device, self.dtype)
                self._projected[id(prompt)] = (project_prompt(self._crossing, tokens), prompt)
            self._projected.move_to_end(id(prompt))
            rows.append(self._projected[id(prompt)][0])
        while len(self._projected) > KEPT_PROMPTS:
            self._projected.popitem(last=False)
        return tuple(
            (torch.cat([key for key, _ in layer]), torch.cat([value for _, value in layer])) for layer in zip(*rows, strict=True)
        )

    def __call__(
        self,
        latents: Tensor,
        timesteps: Tensor,
        conditioning: Conditioning,
        *,
        image_latents: Tensor | None = None,
        frame_groups: tuple[int, ...] | None = None,
    ) -> Tensor:
        """The network's prediction, float32 [N, C, h, w], for float32 latents [N, C, h, w] and timesteps [N].

        image_latents: clean latents [N, C, h, w] of the inputs, for image-conditioned networks.
        frame_groups: see StreamAttention.
        """
        x = latents if image_latents is None else torch.cat((latents, image_latents), dim=1)
        options: Mapping[str, Any] = NO_OPTIONS if frame_groups is None else {"frame_groups": frame_groups}
        return self._runtime("denoiser", self._network, (x, timesteps, *conditioning.tensors()), options)


def guidance_embedding(scale: float, width: int) -> Tensor:
    """Sinusoidal embedding [1, width] of a guidance scale as latent consistency models take it: of 1000 (scale - 1)."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * -(math.log(10_000.0) / (half - 1)))
    angles = 1000.0 * (scale - 1.0) * frequencies
    embedding = torch.cat((torch.sin(angles), torch.cos(angles)))
    return torch.nn.functional.pad(embedding, (0, width % 2))[None]
