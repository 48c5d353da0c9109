"""Clips and their looks as latents on disk, made shard by shard, and random batches of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from embedded.tones import Picture
from torch import Tensor

from .drift import clouds
from .looks import Look
from .motion import Clip

FRAMES = 8  # of a clip; more than the window, so that what leaves it is learned too
SIDE = 128  # pixels
CHANNELS = 8  # of a latent
SOURCES, LOOKS_EACH, DREAMS = 40, 4, 32  # of a shard
Encoder = Callable[[Clip], Tensor]
"""uint8 [T, S, S, 3] to latents [T, C, S / 8, S / 8]."""


@dataclass(frozen=True)
class Batch:
    """B clips. source: latents of the input; target: of the wanted look, both float32 [B, T, C, h, w].

    other: the same source in another look. look, other_look: their numbers, int64 [B]. noise: [B, T, C, h, w] that the frames start
    from. dreamt: bool [B], clouds out of that noise, which have no input (source 0).
    """

    source: Tensor
    target: Tensor
    other: Tensor
    look: Tensor
    other_look: Tensor
    noise: Tensor
    dreamt: Tensor


def make_shard(
    path: Path,
    *,
    source: Callable[[np.random.Generator], Clip],
    encode: Encoder,
    looks: tuple[Look, ...],
    seed: int,
    sources: int = SOURCES,
    dreams: int = DREAMS,
) -> None:
    """Draw and encode one shard of `sources` clips in LOOKS_EACH looks each, and `dreams`, into `path`."""
    generator = np.random.default_rng(seed)
    clips, styled, styles, dreamt, noises, dream_looks = [], [], [], [], [], []
    for _ in range(sources):
        clip = source(generator)
        chosen = generator.choice(len(looks), size=LOOKS_EACH, replace=False)
        clips.append(encode(clip).half())
        styled.append(torch.stack([encode(drawn(clip, looks[number])).half() for number in chosen]))
        styles.append(torch.from_numpy(chosen))
    for _ in range(dreams):
        noise = generator.standard_normal((FRAMES, CHANNELS, SIDE // 8, SIDE // 8), dtype=np.float32)
        number = int(generator.integers(len(looks)))
        dreamt.append(encode(drawn(clouds(noise), looks[number])).half())
        noises.append(torch.from_numpy(noise).half())
        dream_looks.append(number)
    shard = {
        "source": torch.stack(clips), "styled": torch.stack(styled), "style": torch.stack(styles),
        "dream": torch.stack(dreamt), "noise": torch.stack(noises), "dream_look": torch.tensor(dream_looks),
    }  # fmt: skip
    partial = path.with_suffix(".partial")
    torch.save(shard, partial)
    partial.rename(path)


def drawn(clip: Clip, look: Look) -> npt.NDArray[np.uint8]:
    """Every picture of a clip in a look."""
    return np.stack([look.draw(np.ascontiguousarray(picture)) for picture in clip])


class Pool:
    """All shards of a folder in memory."""

    def __init__(self, folder: Path, *, seed: int) -> None:
        shards = [torch.load(file, weights_only=True) for file in sorted(folder.glob("shard_*.pt"))]
        if not shards:
            raise FileNotFoundError(f"no shards in {folder}: run the stage data first")
        self.parts = {name: torch.cat([shard[name] for shard in shards]) for name in shards[0]}
        self.generator = torch.Generator().manual_seed(seed)

    @property
    def clips(self) -> int:
        """Clips with their looks, dreams not counted."""
        return int(self.parts["style"].numel())

    def batch(self, count: int, *, dreams: int) -> Batch:
        """`count` clips, the last `dreams` of them clouds; clips are played backwards at times."""
        parts, random = self.parts, self.generator
        films = count - dreams
        row = torch.randint(len(parts["source"]), (films,), generator=random)
        pair = torch.stack([torch.randperm(LOOKS_EACH, generator=random)[:2] for _ in range(films)]) if films else torch.empty(0, 2).long()
        dream = torch.randint(len(parts["dream"]), (dreams,), generator=random)
        order = torch.arange(FRAMES)
        backwards = torch.rand(films, generator=random) < 0.5
        source, target, other = (
            torch.where(backwards[:, None, None, None, None], clip[:, order.flip(0)], clip)
            for clip in (parts["source"][row], parts["styled"][row, pair[:, 0]], parts["styled"][row, pair[:, 1]])
        )
        noise = torch.randn(films, *parts["noise"].shape[1:], generator=random)
        clouded = parts["dream"][dream]
        looks = parts["style"][row]
        return Batch(
            source=torch.cat([source, torch.zeros_like(clouded)]).float(),
            target=torch.cat([target, clouded]).float(),
            other=torch.cat([other, clouded]).float(),
            look=torch.cat([looks.gather(1, pair[:, :1])[:, 0], parts["dream_look"][dream]]),
            other_look=torch.cat([looks.gather(1, pair[:, 1:])[:, 0], parts["dream_look"][dream]]),
            noise=torch.cat([noise, parts["noise"][dream].float()]),
            dreamt=torch.arange(count) >= films,
        )


def pictures_to_signed(clip: npt.NDArray[np.uint8] | Picture) -> Tensor:
    """uint8 [..., H, W, 3] to float32 [..., 3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(clip)).movedim(-1, -3).float() / 127.5 - 1.0
