"""Contact sheets: photos down, prompts across, made by the networks as the running program would make them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import AutoencoderTiny
from transformers import CLIPTokenizer

from . import flow
from .conditioned import Conditioned
from .finishing import signed
from .looks import RECOMMENDED
from .tokenizer import token_ids
from .tones import Picture

SHOWN_PHOTOS = (216, 577, 1245, 569)


@dataclass(frozen=True)
class Restyler:
    """Photo and prompt to picture in `steps` Euler steps from noise level `strength`."""

    network: Conditioned
    autoencoder: AutoencoderTiny
    tokenizer: CLIPTokenizer

    def __call__(self, photo: Picture, prompts: Sequence[str], *, steps: int = 1, strength: float = 1.0, seed: int = 0) -> list[Picture]:
        """One uint8 [H, W, 3] picture per prompt; sides are multiples of 32."""
        device = next(self.network.parameters()).device
        ids = torch.tensor(token_ids(self.tokenizer, list(prompts)), device=device)
        pictures: list[Picture] = []
        with torch.inference_mode():
            content = self.autoencoder.encode(signed(torch.from_numpy(np.array(photo[None])).to(device))).latents
            noise = torch.randn(content.shape, generator=torch.Generator().manual_seed(seed)).to(device)
            for text in self.network.texts(ids).split(1):
                sigmas = torch.linspace(strength, 0, steps + 1).tolist()
                x = flow.noisy(content, noise, torch.tensor([strength], device=device))
                for s, following in zip(sigmas[:-1], sigmas[1:], strict=True):
                    velocity = self.network(x, content, torch.tensor([s], device=device), text)
                    x = x + (following - s) * velocity
                made = self.autoencoder.decode(x).sample[0].clamp(-1, 1)
                pictures.append(((made + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy())
        return pictures


def labelled(picture: Picture, text: str) -> Picture:
    """`picture` with `text` in its upper left corner."""
    shown = np.ascontiguousarray(picture)
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(shown, text, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, width, cv2.LINE_AA)
    return shown


def write_sheet(path: Path, rows: Sequence[Sequence[Picture]]) -> None:
    """Save equally large pictures as one PNG grid."""
    grid = np.vstack([np.hstack(row) for row in rows])
    cv2.imwrite(str(path), cv2.cvtColor(grid, cv2.COLOR_RGB2BGR))


def prompt_sheet(path: Path, restyler: Restyler, photos: Sequence[Picture], prompts: Sequence[str], *, steps: int = 1) -> None:
    """Photos beside their pictures at each prompt."""
    rows = []
    for photo in photos:
        made = restyler(photo, prompts, steps=steps)
        rows.append([photo, *(labelled(picture, prompt) for picture, prompt in zip(made, prompts, strict=True))])
    write_sheet(path, rows)


def strength_sheet(path: Path, restyler: Restyler, photo: Picture, prompts: Sequence[str]) -> None:
    """Prompts down, strengths across, one step each."""
    strengths = (0.2, 0.4, 0.6, 0.8, 1.0)
    columns = [restyler(photo, prompts, strength=strength) for strength in strengths]
    rows = [
        [photo, *(labelled(made[i], f"{prompt} {s}") for made, s in zip(columns, strengths, strict=True))]
        for i, prompt in enumerate(prompts)
    ]
    write_sheet(path, rows)


def contact_sheets(work: Path, restyler: Restyler, photos: Sequence[Picture], *, step: int) -> None:
    """Some photos under the recommended looks, and one at several strengths, into the work folder."""
    shown = [photos[number % len(photos)] for number in SHOWN_PHOTOS]
    prompt_sheet(work / f"sheet_{step:06d}.png", restyler, shown, RECOMMENDED)
    strength_sheet(work / f"strength_{step:06d}.png", restyler, shown[0], RECOMMENDED[:5])
