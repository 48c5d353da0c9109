"""How large training is on the device at hand: sizes of pictures, batches and pools. The losses are the same everywhere."""

import os
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Scale:
    """side: pixels of the training pictures. pool: pairs kept. drawn: pairs a drawing process hands over at once.

    pictures: batch of the autoencoder. latents: batch of the denoiser, of which `decoded` are compared as pictures; `rebuilt`
    finished pictures go through the decoder beside them; each as a window of `window` pixels. moved: pairs of a picture and the same
    picture moved a little. critics: whether discriminators compare the denoiser's pictures, too.
    texts: batch of the text encoder; examples: texts that are written at once before it trains on them.
    inverted, tuned, styled: batches of the inversion, the tuning and the styling. polished: batch of the polish, over so many photos and
    texts.
    """

    side: int
    pool: int
    drawn: int
    processes: int
    pictures: int
    latents: int
    decoded: int
    rebuilt: int
    window: int
    moved: int
    critics: bool
    texts: int
    examples: int
    inverted: int
    tuned: int
    styled: int
    polished: int
    polish_photos: int
    polish_texts: int


def scale_of(device: torch.device) -> Scale:
    """Sizes for a data-centre GPU with about ten processor cores beside it, or for a processor of a few cores."""
    cores = os.cpu_count() or 1
    if device.type == "cuda":
        return Scale(side=256, pool=30_000, drawn=64, processes=max(cores - 2, 1), pictures=64, latents=256, decoded=64, rebuilt=16,
            window=256, moved=12, critics=True, texts=2048, examples=1_500_000, inverted=64, tuned=512, styled=96, polished=128,
            polish_photos=8000, polish_texts=20_000)  # fmt: skip
    # On a few cores discriminators take as long as all other comparisons together, and windows show four times as many styles.
    return Scale(side=256, pool=2048, drawn=16, processes=0, pictures=8, latents=24, decoded=16, rebuilt=2, window=128,
        moved=2, critics=False, texts=192, examples=200_000, inverted=12, tuned=64, styled=16, polished=16, polish_photos=1200,
        polish_texts=3000)  # fmt: skip
