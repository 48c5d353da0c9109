"""The frozen parts that the video model shares with the embedded image model: autoencoder and text encoder."""

from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from engine.models.autoencoder import Autoencoder
from engine.models.video_text import VideoTextEncoder

from .motion import Clip
from .pool import pictures_to_signed

LATENT_SCALE = 2.0
"""The autoencoder's scaling factor in this model. Latents with a spread of about 1.7 instead of 0.8 keep more of the input under the
same share of noise: it is a choice of what a strength means, as a shift of the noise schedule is."""
TOKENS = 32


def read_autoencoder(folder: Path, *, dtype: torch.dtype) -> tuple[AutoencoderTiny, Autoencoder]:
    """The image model's autoencoder, and the engine's view of it with this model's scale."""
    vae = AutoencoderTiny.from_pretrained(folder).requires_grad_(False).eval()
    vae.register_to_config(scaling_factor=LATENT_SCALE)
    return vae, Autoencoder(vae.to(dtype), dtype=torch.float32)


def encoder_of(autoencoder: Autoencoder) -> "ClipEncoder":
    """Clips to latents."""
    return ClipEncoder(autoencoder)


class ClipEncoder:
    """uint8 [T, S, S, 3] to latents float32 [T, C, S / 8, S / 8]."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        self._autoencoder = autoencoder

    @torch.inference_mode()
    def __call__(self, clip: Clip) -> Tensor:
        return self._autoencoder.encode(pictures_to_signed(clip)).float().clone()


def read_text(folder: Path) -> VideoTextEncoder:
    """The image model's text encoder as the video stream runs it: [1, 32, D], zeros beyond the prompt."""
    network = CLIPTextModel.from_pretrained(folder / "text_encoder").requires_grad_(False).eval().float()
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    return VideoTextEncoder(network, tokenizer, device=torch.device("cpu"), dtype=torch.float32, tokens=TOKENS)
