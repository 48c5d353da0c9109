"""How well the model's autoencoder rebuilds held-out photos and the teacher's pictures, beside TAESD."""

import math
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny

from .features import batches
from .painter import BATCH, signed, to_pictures
from .pictures import Picture
from .report import Cell, Figures
from .structure import luminance, ssim


def psnr(one: Picture, other: Picture) -> float:
    """Peak signal-to-noise ratio of two uint8 pictures in dB; infinite for equal ones."""
    error = float(np.square(one.astype(np.float64) - other.astype(np.float64)).mean())
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def rebuilt(autoencoder: AutoencoderTiny, pictures: Picture) -> Picture:
    """Pictures [N, H, W, 3] through an autoencoder and back, in float32.

    Calling the class itself would also clamp the latents and round them to 8 bits, which no stream does.
    """
    with torch.inference_mode():
        parts = [autoencoder.decode(autoencoder.encode(signed(part)).latents).sample for part in batches(pictures, BATCH)]
        return np.concatenate([to_pictures(part) for part in parts])


def autoencoders(model: Path, taesd: Path, kinds: dict[str, Picture]) -> Figures:
    """PSNR and SSIM of both autoencoders on pictures [N, H, W, 3] of every kind, means over the pictures."""
    rows: list[list[Cell]] = []
    for name, folder in (("the model's", model / "vae"), ("TAESD", taesd)):
        autoencoder = AutoencoderTiny.from_pretrained(folder).float().eval()
        size = sum(parameter.numel() for parameter in autoencoder.parameters())
        for kind, pictures in kinds.items():
            made = rebuilt(autoencoder, pictures)
            pairs = list(zip(pictures, made, strict=True))
            noise = float(np.mean([psnr(a, b) for a, b in pairs]))
            likeness = float(np.mean([ssim(luminance(a), luminance(b)) for a, b in pairs]))
            rows.append([name, f"{size:,}", f"{len(pictures)} {kind}", f"{noise:.2f}", likeness])
    return Figures("Autoencoder, 256 x 256", ("autoencoder", "parameters", "pictures", "PSNR dB", "SSIM"), rows)
