"""Pictures to latents and back by an autoencoder that learns: its weights of the moment, folded where they fold."""

import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from engine.models.folded_autoencoder import decoder_folds, encoder_folds, folded_decoder, folded_encoder

from .precision import quickly


def encoded(autoencoder: AutoencoderTiny, pictures: Tensor) -> Tensor:
    """Latents float32 [B, C, h, w] of pictures [B, 3, 8 h, 8 w] in [-1, 1], by the encoder as it is at this moment."""
    with quickly(pictures.device):
        run = folded_encoder(autoencoder.encoder) if encoder_folds(autoencoder.encoder) else autoencoder.encoder
        latents: Tensor = run(pictures.contiguous(memory_format=torch.channels_last))
    return latents.float()


def decoded(decoder: nn.Module, latents: Tensor) -> Tensor:
    """Pictures float32 [B, 3, 8 h, 8 w] about [-1, 1] of latents [B, C, h, w], by an autoencoder's decoder as it is at this moment."""
    with quickly(latents.device):
        run = folded_decoder(decoder) if decoder_folds(decoder) else decoder
        pictures: Tensor = run(latents.contiguous(memory_format=torch.channels_last))
    return pictures.float()
