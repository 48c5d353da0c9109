"""The networks that finished stages of a run have left in its work folder, or what stands in where there are none."""

import copy
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from transformers import CLIPTextModel

from .autoencoder import load_autoencoder


def trained_autoencoder(work: Path, start: Path | None) -> AutoencoderTiny:
    """This run's autoencoder, or else that of the model it starts from; float32, frozen."""
    known = work / "autoencoder.pt"
    if known.exists() or start is None:
        return load_autoencoder(known)
    network: AutoencoderTiny = AutoencoderTiny.from_pretrained(start / "vae")
    return network.float().eval().requires_grad_(False)


def styled_unet(work: Path, unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """The denoiser that the polish begins with: the styled one if there is one, else `unet`, whose weights become these."""
    return _left(work / "styled.pt", unet)


def polished_unet(work: Path, unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """The denoiser that ships: the polished one if there is one, else `unet`, whose weights become these."""
    return _left(work / "polished.pt", styled_unet(work, unet))


def _left(path: Path, unet: UNet2DConditionModel) -> UNet2DConditionModel:
    if path.exists():
        unet.load_state_dict(torch.load(path, map_location=unet.device, weights_only=True)["average"])
    return unet


def tuned_text_encoder(work: Path, text_encoder: CLIPTextModel) -> CLIPTextModel:
    """The text encoder that ships, a copy: the tuned one if there is one."""
    tuned = work / "tuned_text.pt"
    encoder: CLIPTextModel = copy.deepcopy(text_encoder)
    if tuned.exists():
        encoder.load_state_dict(torch.load(tuned, map_location="cpu", weights_only=True)["encoder"])
    return encoder
