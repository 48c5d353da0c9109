"""Full-size architectures with random weights: the speed of a model without its download. Their pictures mean nothing."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import torch

from engine.models.catalogue import ModelCard
from engine.models.text_encoder import PromptEmbedding
from engine.models.weights import LoadedModel

CONFIGS = {"sd-turbo": "sd2", "sd15": "sd1", "sdxl-turbo": "sdxl"}
POOLED = 1280


def random_model(name: str, *, device: torch.device, dtype: torch.dtype) -> LoadedModel:
    """One of CONFIGS: its UNet, and TAESD's architecture as the autoencoder. Initialised on the device, seed 0."""
    from diffusers import AutoencoderTiny, UNet2DConditionModel

    folder = files("engine.models") / "checkpoint_configs" / CONFIGS[name]
    read: dict[str, Any] = json.loads((folder / "unet" / "config.json").read_text("utf-8"))
    config = {key: value for key, value in read.items() if not key.startswith("_")}
    torch.manual_seed(0)
    with torch.device(device):
        unet, vae = UNet2DConditionModel(**config), AutoencoderTiny()
    for module in (unet, vae):
        module.requires_grad_(False).eval().to(device, dtype).to(memory_format=torch.channels_last)
    return LoadedModel(
        card=ModelCard(name=f"random {name}", source=name, title=f"Random weights in the shape of {name}", step_method="consistency"),
        device=device,
        dtype=dtype,
        unet=unet,
        vae=vae,
        text_encoders=(),
        tokenizers=(),
        scheduler_config={"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"},
        scheduler_class="EulerDiscreteScheduler",
        pipeline_class="StableDiffusionXLPipeline" if name.startswith("sdxl") else "StableDiffusionPipeline",
        prediction="epsilon",
        is_sdxl=name.startswith("sdxl"),
        image_conditioned=False,
        zero_negative=False,
        vae_is_tiny=True,
        vae_upcast=False,
        guidance_embedding_dim=None,
        merged=(),
    )


class RandomPrompts:
    """One random prompt embedding of the width that the model takes."""

    def __init__(self, loaded: LoadedModel) -> None:
        width = loaded.unet.config.cross_attention_dim
        generator = torch.Generator("cpu").manual_seed(1)
        self.embedding = PromptEmbedding(
            text="random",
            tokens=torch.randn((1, 77, width), generator=generator).to(loaded.device, loaded.dtype),
            pooled=torch.randn((1, POOLED), generator=generator).to(loaded.device, loaded.dtype) if loaded.is_sdxl else None,
        )

    def positive(self, values: object) -> PromptEmbedding:
        """The embedding."""
        return self.embedding

    negative = positive
