"""How large training is on the device at hand: sizes of pictures, batches and pools. The losses are the same everywhere."""

import os
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Scale:
    """side: pixels of the training pictures. pool: pairs kept. drawn: pairs a drawing process hands over at once.

    pictures: batch of the autoencoder. latents: batch of the denoiser, of which `decoded` are compared as pictures; `rebuilt`
    finished pictures go through the decoder beside them. moved: pairs of a picture and the same picture moved a little.
    texts: batch of the text encoder; examples: texts that are written at once before it trains on them.
    tuned: batch of the tuning. polished: batch of the polish, over so many photos and texts.
    """

    side: int
    pool: int
    drawn: int
    processes: int
    pictures: int
    latents: int
    decoded: int
    rebuilt: int
    moved: int
    texts: int
    examples: int
    tuned: int
    polished: int
    polish_photos: int
    polish_texts: int


def scale_of(device: torch.device) -> Scale:
    """Sizes for a data-centre GPU with about ten processor cores beside it, or for a processor of a few cores."""
    cores = os.cpu_count() or 1
    if device.type == "cuda":
        return Scale(side=256, pool=30_000, drawn=64, processes=max(cores - 2, 1), pictures=64, latents=256, decoded=64, rebuilt=16,
            moved=12, texts=2048, examples=1_500_000, tuned=512, polished=128, polish_photos=8000, polish_texts=20_000)  # fmt: skip
    return Scale(side=128, pool=4096, drawn=16, processes=min(cores - 1, 1), pictures=16, latents=24, decoded=8, rebuilt=2,
        moved=2, texts=192, examples=200_000, tuned=64, polished=16, polish_photos=1200, polish_texts=3000)  # fmt: skip
