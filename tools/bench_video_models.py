"""Causal video models with random weights: their speed without their download. Their pictures mean nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from engine.models.catalogue import ModelCard, resolve
from engine.models.loading_errors import quiet_libraries
from engine.models.prompt_encoder import PromptEmbedding, PromptEncoder
from engine.models.taehv import Taehv
from engine.models.video_checkpoint import empty_transformer, filled
from engine.models.video_policies import SHAPES, WanShape
from engine.models.video_text import TOKENS
from engine.models.video_weights import LoadedVideoModel
from engine.settings import SettingsError

TINY = WanShape(layers=4, heads=2, ffn_dim=1024, text_dim=64)
RANDOM_SHAPES = {**SHAPES, "tiny": TINY}
"""tiny: not published by anyone, for trying the bench on a CPU."""
_TINY_VAE = {"base_dim": 16, "num_res_blocks": 1}
CODECS = ("own", "tiny")


def random_video_model(name: str, row: str, *, codec: str, device: torch.device, dtype: torch.dtype) -> LoadedVideoModel:
    """One of RANDOM_SHAPES, made on the device, run as the catalogue's `row` says. codec: `own` is Wan's autoencoder, `tiny` TAEHV."""
    policies = resolve(row).video
    if policies is None:
        raise SettingsError(f"{row} is an image model; --policies takes a video row of the catalogue")
    policies = replace(policies, shape=name if name in SHAPES else "")
    torch.manual_seed(0)
    vae, mean, std = _random_codec(name, codec, device, dtype)
    return LoadedVideoModel(
        card=ModelCard(name=f"random {name}", source=name, title=f"Random weights in the shape of {name}", video=policies),
        policies=policies, device=device, dtype=dtype, transformer=random_transformer(RANDOM_SHAPES[name], device=device, dtype=dtype),
        vae=vae, text_encoder=None, tokenizer=None, text_offloaded=False, latents_mean=mean, latents_std=std,
    )  # fmt: skip


def with_random_codec(loaded: LoadedVideoModel, name: str, codec: str) -> LoadedVideoModel:
    """The same with another codec, both of them over one transformer."""
    vae, _, _ = _random_codec(name, codec, loaded.device, loaded.dtype)
    return replace(loaded, vae=vae)


def random_transformer(shape: WanShape, *, device: torch.device, dtype: torch.dtype) -> Any:
    """A WanTransformer3DModel whose outputs are finite and of ordinary size: normal weights by their fan-in, norms as they start."""
    empty = empty_transformer(shape)
    state = {name: _random_weight(name, weight, device, dtype) for name, weight in empty.state_dict().items()}
    return filled(empty, state, dtype=dtype).requires_grad_(False).eval().to(device)


def _random_weight(name: str, like: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    if like.ndim == 1:  # of a norm, or a bias
        return torch.full(like.shape, 1.0 if name.endswith("weight") else 0.0, device=device, dtype=dtype)
    fan_in = like[0].numel()
    return torch.empty(like.shape, device=device, dtype=dtype).normal_(0.0, fan_in**-0.5)


def _random_codec(name: str, codec: str, device: torch.device, dtype: torch.dtype) -> tuple[Any, tuple[float, ...], tuple[float, ...]]:
    """(network, means and deviations of Wan's latents)."""
    from diffusers import AutoencoderKLWan

    with torch.device("meta" if codec == "tiny" else device):
        large = AutoencoderKLWan(**(_TINY_VAE if name == "tiny" else {}))
    mean, std = tuple(large.config["latents_mean"]), tuple(large.config["latents_std"])
    with torch.device(device), quiet_libraries():
        vae: Any = (large if codec == "own" else Taehv()).to(dtype)
    return vae.requires_grad_(False).eval(), mean, std


class RandomTexts(PromptEncoder):
    """A random embedding for every text, as wide as the model takes."""

    def __init__(self, loaded: LoadedVideoModel) -> None:
        super().__init__(loaded.device)
        self._width, self._dtype = loaded.transformer.config.text_dim, loaded.dtype

    def _embed(self, text: str) -> PromptEmbedding:
        generator = torch.Generator("cpu").manual_seed(len(text))
        tokens = torch.randn((1, TOKENS, self._width), generator=generator).to(self._device, self._dtype)
        return PromptEmbedding(text=text, tokens=tokens, pooled=None)


def shape_of_model(transformer: Any) -> WanShape:
    """Its sizes."""
    config = transformer.config
    return WanShape(
        layers=config.num_layers, heads=config.num_attention_heads, ffn_dim=config.ffn_dim, head_dim=config.attention_head_dim,
        channels=config.in_channels, text_dim=config.text_dim, freq_dim=config.freq_dim,
    )  # fmt: skip


