"""From a card to a model that is ready to run: read, checked, LoRAs merged, on its device. How it is called is elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from engine.diffusion.prediction import Prediction
from engine.models.catalogue import SINGLE_FILES, ModelCard, ModelError
from engine.models.loading_errors import plain_errors, quiet_libraries
from engine.models.lora import MergedLora, merge_loras
from engine.models.model_folder import ModelParts, find_folder, read_folder
from engine.settings import PASSTHROUGH

TINY_AUTOENCODERS = {False: "madebyollin/taesd", True: "madebyollin/taesdxl"}
"""TAESD for the latents of SD 1.x and 2.x, and for those of SDXL."""

_PREDICTIONS: Mapping[str, Prediction] = {"epsilon": "epsilon", "v_prediction": "v_prediction", "sample": "sample"}


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedModel:
    """A model ready to run: frozen weights in `dtype` on `device`, and the facts that decide how it is called.

    unet, vae, text_encoders, tokenizers: diffusers' and transformers' own objects, one or two text encoders.
    scheduler_config, scheduler_class: the scheduler's settings as written with the model; no scheduler object is made.
    prediction: what the UNet's output means. is_sdxl: it wants pooled text and time ids. image_conditioned: the UNet
    takes the input's unscaled latent beside the noisy one. zero_negative: an empty negative prompt is a zero embedding.
    vae_is_tiny: an AutoencoderTiny. vae_upcast: the autoencoder runs in float32 though the rest is float16.
    guidance_embedding_dim: size of the guidance embedding a latent consistency model takes, or None.
    merged: the LoRAs merged into the weights, in order.
    """

    card: ModelCard
    device: torch.device
    dtype: torch.dtype
    unet: Any
    vae: Any
    text_encoders: tuple[Any, ...]
    tokenizers: tuple[Any, ...]
    scheduler_config: Mapping[str, Any]
    scheduler_class: str
    pipeline_class: str
    prediction: Prediction
    is_sdxl: bool
    image_conditioned: bool
    zero_negative: bool
    vae_is_tiny: bool
    vae_upcast: bool
    guidance_embedding_dim: int | None
    merged: tuple[MergedLora, ...]


def load(
    card: ModelCard, *, device: torch.device, dtype: torch.dtype, lora: tuple[tuple[str, float], ...] = ()
) -> LoadedModel:
    """Read the model of a card, merge its LCM-LoRA and then `lora` (source, scale), put it on its device.

    Blocks for seconds, and for minutes where the hub's files are not here yet. ModelError in one plain sentence for
    everything that can be wrong with a model, a LoRA, the hub or the memory.
    """
    if card.source == PASSTHROUGH:
        raise ModelError("passthrough has no weights to load; it is a stream of its own")
    with quiet_libraries(), plain_errors(card, device):
        parts = _read(card, dtype)
        facts = _checked(card, parts)
        wanted = ((card.lcm_lora, 1.0), *lora) if card.lcm_lora else lora
        for module in (parts.unet, parts.vae, *parts.text_encoders):
            module.requires_grad_(False).eval().to(device)
        merged = merge_loras(wanted, unet=parts.unet, text_encoders=parts.text_encoders)
        for module in (parts.unet, parts.vae):
            module.to(memory_format=torch.channels_last)
    config = parts.unet.config
    return LoadedModel(
        card=card,
        device=device,
        dtype=dtype,
        unet=parts.unet,
        vae=parts.vae,
        text_encoders=parts.text_encoders,
        tokenizers=parts.tokenizers,
        scheduler_config=parts.scheduler_config,
        scheduler_class=parts.scheduler_class,
        pipeline_class=parts.pipeline_class,
        prediction=facts,
        is_sdxl=config.get("addition_embed_type") == "text_time",
        image_conditioned=config.in_channels == 2 * parts.vae.config.latent_channels,
        zero_negative=bool(parts.index.get("force_zeros_for_empty_prompt", False)),
        vae_is_tiny=type(parts.vae).__name__ == "AutoencoderTiny",
        vae_upcast=next(parts.vae.parameters()).dtype != dtype,
        guidance_embedding_dim=config.get("time_cond_proj_dim"),
        merged=merged,
    )


def _read(card: ModelCard, dtype: torch.dtype) -> ModelParts:
    path = Path(card.source)
    if path.suffix.lower() in SINGLE_FILES and not path.is_dir():
        from engine.models.single_file import read_single_file

        return read_single_file(path, dtype=dtype)
    return read_folder(find_folder(card, dtype=dtype), dtype=dtype)


def with_autoencoder(loaded: LoadedModel, source: str) -> LoadedModel:
    """The model with another autoencoder for the same latents: `tiny` for TAESD, or a hub id or folder of an AutoencoderTiny or
    AutoencoderKL. ModelError if it cannot be had or has other latents."""
    from diffusers import AutoencoderKL, AutoencoderTiny

    source = TINY_AUTOENCODERS[loaded.is_sdxl] if source == "tiny" else source
    with quiet_libraries(), plain_errors(loaded.card, loaded.device):
        try:
            kind = AutoencoderTiny.load_config(source).get("_class_name")
            vae = {"AutoencoderKL": AutoencoderKL}.get(kind, AutoencoderTiny).from_pretrained(source, torch_dtype=loaded.dtype)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"the autoencoder {source} could not be had: there is no such folder, or the hub cannot be reached; "
                "load it once while online, or take --autoencoder own"
            ) from error
        channels = loaded.vae.config.latent_channels
        if vae.config.latent_channels != channels:
            raise ModelError(f"the autoencoder {source} has {vae.config.latent_channels} latent channels, the model {channels}")
        vae.requires_grad_(False).eval().to(loaded.device).to(memory_format=torch.channels_last)
    return replace(loaded, vae=vae, vae_is_tiny=type(vae).__name__ == "AutoencoderTiny", vae_upcast=False)


def prediction_of(scheduler_class: str, config: Mapping[str, Any]) -> Prediction:
    """What the UNet predicts, by its scheduler's settings; ModelError for a kind that the engine does not know."""
    named = str(config.get("prediction_type", "epsilon"))
    if scheduler_class.startswith("FlowMatch") or config.get("use_flow_sigmas") or named in ("flow", "flow_prediction"):
        return "flow"
    known = _PREDICTIONS.get(named)
    if known is not None:
        return known
    raise ModelError(f"this model predicts {named!r}; the engine knows epsilon, v_prediction, sample and flow")


def _checked(card: ModelCard, parts: ModelParts) -> Prediction:
    """What the model predicts, once it is clear that its parts fit each other and the engine can call it."""
    config, channels = parts.unet.config, parts.vae.config.latent_channels
    if config.in_channels not in (channels, 2 * channels):
        raise ModelError(
            f"the UNet of {card.title} takes {config.in_channels} channels; the engine runs models that take the latent "
            f"({channels}) or the latent and the input ({2 * channels}), not inpainting or depth models"
        )
    addition = config.get("addition_embed_type")
    if addition not in (None, "text", "text_time") or config.get("class_embed_type") or parts.index.get("requires_aesthetics_score"):
        raise ModelError(f"{card.title} wants conditions that the engine does not have (it may be a refiner or an upscaler)")
    if len(parts.text_encoders) != (2 if addition == "text_time" else 1):
        raise ModelError(f"{card.title} has {len(parts.text_encoders)} text encoders, which is not what its UNet expects")
    width = sum(encoder.config.hidden_size for encoder in parts.text_encoders)
    if config.cross_attention_dim != width:
        raise ModelError(
            f"the parts of {card.title} do not fit: its UNet takes text {config.cross_attention_dim} wide "
            f"and its text encoders give {width}"
        )
    return prediction_of(parts.scheduler_class, parts.scheduler_config)
