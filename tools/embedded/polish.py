"""The last polish of the denoiser: strengths below 1 and further steps, taught by its own one-step pictures at strength 1.

A live stream at strength s begins from its own photo; the picture wanted is s of the way from the photo to the picture that the
denoiser itself makes of it at s = 1 (`flow.goal`). A frozen copy makes that picture, so textures stay what they are. No pairs are
needed: photos and prompts are enough. Beside it, at strengths below 1, the picture of a photo moved a little must be the picture of
the photo, moved along.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from . import flow
from .averaging import update_average
from .checkpoint import replace_checkpoint
from .conditioned import Conditioned
from .denoiser_batch import JITTER, UNPROMPTED, wide
from .finishing import on_device, signed
from .latents import decoded, encoded
from .motion import GRAIN, moved, places_of, small_motions, unsteadiness
from .photos import random_crop
from .record import TrainingRecord

LEARNING_RATE = 2e-4
AT_ONE, REFINED, EMPTY_HANDED = 0.6, 0.15, 0.04  # shares: from noise alone, from the noised finished picture, without a photo
STEADY = 0.5  # weight of steadiness
CROPS_AT_ONCE = 16
NOTE_STEPS, CHECKPOINT_STEPS = 10, 50


@dataclass(frozen=True)
class PolishBatch:
    """`content` [B, C, h, w] photos' latents, 0 without a photo; `text` [B, 32, width]; `plain` [B] has the empty prompt."""

    content: Tensor
    text: Tensor
    plain: Tensor


@dataclass(frozen=True)
class MovingPhotos:
    """`latents` [N, 2, C, h, w] of photos and of the same photos moved, as a camera sees them; their `motions` [N, 2, 3]."""

    latents: Tensor
    motions: Tensor

    def some(self, count: int, *, generator: torch.Generator) -> "MovingPhotos":
        """`count` random ones."""
        rows = torch.randint(len(self.latents), (count,), generator=generator, device=self.latents.device)
        return MovingPhotos(self.latents[rows], self.motions[rows])


class Polish:
    """State of one polish that can be stopped and taken up again from its checkpoint. `network`: averaged, as it left its training."""

    def __init__(self, work: Path, network: Conditioned, *, device: torch.device, seed: int) -> None:
        self.path, self.work, self.device = work / "polished.pt", work, device
        self.frozen = network.requires_grad_(False).eval()
        self.network = copy.deepcopy(network)
        self.network.unet.requires_grad_(True)
        self.average = copy.deepcopy(self.network.unet).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self.network.unet.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.0)
        self.generator = torch.Generator(device).manual_seed(seed)
        self.step, self.seconds = 0, 0.0
        if self.path.exists():
            state = torch.load(self.path, map_location=device, weights_only=True)
            self.network.unet.load_state_dict(state["unet"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.seconds = state["step"], state["seconds"]
            self.generator.manual_seed(seed + self.step)

    def batch(self, contents: Tensor, texts: Tensor, empty: Tensor, count: int) -> PolishBatch:
        """`count` random ones of the photos' latents [N, C, h, w] and of the texts [M, 32, width]; `empty` is the empty prompt's."""
        rows, asked = (torch.randint(len(each), (count,), generator=self.generator, device=self.device) for each in (contents, texts))
        plain, without = torch.rand(2, count, generator=self.generator, device=self.device)
        without = without < EMPTY_HANDED
        plain = (plain < UNPROMPTED) & ~without
        content = torch.where(wide(without), 0.0, contents[rows])
        return PolishBatch(content, torch.where(plain[:, None, None], empty, texts[asked]), plain)

    def one_step(self, batch: PolishBatch, moving: MovingPhotos | None = None) -> dict[str, Tensor]:
        """One step; the losses. moving: photos whose pictures must be steady, under the first prompts of `batch`."""
        count = len(batch.content)
        noise, grain = torch.randn(2, *batch.content.shape, generator=self.generator, device=self.device)
        level, share, kind, jitter = torch.rand(4, count, generator=self.generator, device=self.device)
        has_photo = batch.content.flatten(1).any(dim=1)
        content = batch.content + JITTER * wide(jitter * has_photo) * grain
        ones = torch.ones_like(level)
        with torch.no_grad():
            finished = torch.where(wide(batch.plain), batch.content, self.frozen.estimate(noise, content, ones, batch.text))
        begins_at_one = kind < AT_ONE
        refined = (kind < AT_ONE + REFINED) | ~has_photo
        s = torch.where(begins_at_one, ones, 0.1 + 0.9 * level)
        share = torch.where(refined, 1.0, torch.where(share < 0.6, 0.0, 2.5 * (share - 0.6)))
        other = torch.randn(noise.shape, generator=self.generator, device=self.device)
        x_s = flow.noisy(flow.mixture(batch.content, finished, share), torch.where(wide(begins_at_one), noise, other), s)
        wanted = flow.goal(batch.content, finished, share, s)
        rows = (refined & ~begins_at_one).nonzero()[:, 0]  # further steps refine as they did
        if len(rows):
            with torch.no_grad():
                wanted[rows] = self.frozen.estimate(x_s[rows], content[rows], s[rows], batch.text[rows])
        loss = (self.network.estimate(x_s, content, s, batch.text) - wanted).square().mean()
        values = {"latent": loss.detach()}
        if moving is not None:
            steady, astray = self._unsteadiness(moving, batch.text[: len(moving.latents)])
            loss = loss + STEADY * steady + astray
            values["steady"] = steady.detach()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.unet.parameters(), 1.0)
        self.optimizer.step()
        update_average(self.average, self.network.unet, step=self.step, decay=0.99)
        return values

    def _unsteadiness(self, moving: MovingPhotos, text: Tensor) -> tuple[Tensor, Tensor]:
        """How unlike the picture of the moved photo is to the picture of the photo, moved along, from the same noise at a strength of
        0.3 to 0.8; and the latent error of the picture of the photo, without which flat grey would be the steadiest.
        """
        photo, later = moving.latents.unbind(dim=1)
        noise = torch.randn(photo.shape, generator=self.generator, device=self.device)
        s = 0.3 + 0.5 * torch.rand(len(photo), generator=self.generator, device=self.device)
        both, twice = torch.cat([photo, later]), noise.repeat(2, 1, 1, 1)
        x_s = flow.noisy(both, twice, s.repeat(2))
        x0 = self.network.estimate(x_s, both, s.repeat(2), text.repeat(2, 1, 1))
        with torch.no_grad():
            finished = self.frozen.estimate(noise, photo, torch.ones_like(s), text)
        astray = (x0[: len(photo)] - flow.goal(photo, finished, torch.zeros_like(s), s)).square().mean()
        earlier_made, later_made = decoded(self.network.decoder, x0).chunk(2)
        return unsteadiness(earlier_made, later_made, places_of(moving.motions, earlier_made.shape[-1])), astray

    def save(self, seconds: float) -> None:
        """Replace the checkpoint; its `average` counts."""
        state = {"unet": self.network.unet.state_dict(), "average": self.average.state_dict(), "optimizer": self.optimizer.state_dict()}
        replace_checkpoint(self.path, {**state, "step": self.step, "seconds": seconds})

    def run(self, contents: Tensor, texts: Tensor, empty: Tensor, moving: MovingPhotos, *, batch: int, pairs: int, minutes: float) -> None:
        """Polish until `minutes` in all are used up; `batch` photos and `pairs` moving ones a step."""
        with TrainingRecord(self.work / "polish.csv", title="polish", budget_seconds=60 * minutes, spent_seconds=self.seconds) as record:
            while record.fraction < 1.0:
                share = min(1.0, (self.step + 1) / 30) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * record.fraction)))
                for group in self.optimizer.param_groups:
                    group["lr"] = LEARNING_RATE * share
                values = self.one_step(self.batch(contents, texts, empty, batch), moving.some(pairs, generator=self.generator))
                self.step += 1
                record.note_every(NOTE_STEPS, step=self.step, values=values)
                if self.step % CHECKPOINT_STEPS == 0:
                    self.save(record.spent_seconds)
            self.save(record.spent_seconds)


def crops_of(photos: np.ndarray, count: int, *, side: int, generator: np.random.Generator, device: torch.device) -> Iterator[Tensor]:
    """`count` random crops of `photos` [N, 256, 256, 3] in [-1, 1], some at a time."""
    for start in range(0, count, CROPS_AT_ONCE):
        numbers = generator.integers(len(photos), size=min(CROPS_AT_ONCE, count - start))
        crops = np.stack([random_crop(photos[number], side=side, generator=generator) for number in numbers])
        yield signed(on_device(crops, device))


@torch.no_grad()
def photo_latents(photos: np.ndarray, autoencoder: AutoencoderTiny, *, count: int, side: int, seed: int, device: torch.device) -> Tensor:
    """Latents float32 [count, C, side / 8, side / 8] of random crops of `photos` [N, 256, 256, 3]."""
    generator = np.random.default_rng(seed)
    return torch.cat([encoded(autoencoder, crops) for crops in crops_of(photos, count, side=side, generator=generator, device=device)])


@torch.no_grad()
def moving_photos(
    photos: np.ndarray, autoencoder: AutoencoderTiny, *, count: int, side: int, seed: int, device: torch.device
) -> MovingPhotos:
    """`count` random crops of `photos` [N, 256, 256, 3] and the same crops moved a little, with the grain of a camera."""
    generator, draws = np.random.default_rng([seed, 1]), torch.Generator(device).manual_seed(seed)
    latents, motions = [], []
    for crops in crops_of(photos, count, side=side, generator=generator, device=device):
        motions.append(small_motions(len(crops), generator=draws))
        later = moved(crops, places_of(motions[-1], side), mode="bicubic")
        later = later + GRAIN * torch.randn(later.shape, generator=draws, device=device)
        latents.append(torch.stack([encoded(autoencoder, crops), encoded(autoencoder, later)], dim=1))
    return MovingPhotos(torch.cat(latents), torch.cat(motions))
