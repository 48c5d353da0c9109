"""Training of the small autoencoder: rebuilds photos and their looks, by pixels and by the features of an ImageNet network.

Its latents are kept near unit spread, as the denoiser's noise has; a little noise on them makes the decoder smooth. A moved picture
must come out as the picture, moved. In the second half small discriminators join and sharpen texture.
"""

import copy
import math
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import Tensor

from .averaging import update_average
from .captured import Captured, adam, set_rate
from .checkpoint import replace_checkpoint
from .critics import PictureCritics
from .latents import decoded, encoded
from .motion import GRAIN, moved, places_of, small_motions, unsteadiness
from .networks import new_autoencoder
from .pair_pool import PairPool
from .record import TrainingRecord
from .scale import Scale

LEARNING_RATE = 1.5e-3
SPREAD, STEADY = 0.3, 4.0  # weights of the latents' mean and spread, and of steadiness
NOISE = 0.12  # on the latents, at most
CRITICS_FROM = 0.4  # share of the time after which the discriminators join
NOTE_STEPS, CHECKPOINT_STEPS = 20, 400
RENEW_STEPS = 2  # new pairs come in every so many steps


def load_autoencoder(path: Path) -> AutoencoderTiny:
    """The autoencoder of a checkpoint written by `AutoencoderTraining`, in float32, frozen."""
    network = new_autoencoder()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["network"])
    return network.eval().requires_grad_(False)


def latent_spread(latent: Tensor) -> Tensor:
    """How far the channels of latents [B, C, h, w] are from mean 0 and spread 1; 0 when they are there."""
    return latent.mean(dim=(0, 2, 3)).square().mean() + (latent.std(dim=(0, 2, 3)) - 1).square().mean()


class AutoencoderTraining:
    """State of one training run that can be stopped and taken up again from its checkpoint."""

    def __init__(self, work: Path, *, start: Path | None, device: torch.device, scale: Scale, seed: int) -> None:
        self.path, self.work, self.device, self.scale = work / "autoencoder.pt", work, device, scale
        self.network = new_autoencoder()
        if start is not None:
            self.network.load_state_dict(AutoencoderTiny.from_pretrained(start / "vae").state_dict())
        self.network.to(device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.critics = PictureCritics(device)
        self.optimizer = adam(self.network.parameters(), rate=LEARNING_RATE, betas=(0.9, 0.99), decay=0.0, device=device)
        self.generator = torch.Generator(device).manual_seed(seed)
        self.step, self.seconds = 0, 0.0
        self._learn: tuple[bool, Captured] | None = None
        if self.path.exists():
            state = torch.load(self.path, map_location=device, weights_only=True)
            self.network.load_state_dict(state["raw"])
            self.average.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.critics.load_state_dict(state)
            self.step, self.seconds = state["step"], state["seconds"]
            self.generator.manual_seed(seed + self.step)

    def save(self, seconds: float) -> None:
        """Replace the checkpoint; its `network` are the averaged weights, which count."""
        state = {
            "network": self.average.state_dict(),
            "raw": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **self.critics.state_dict(),
            "step": self.step,
            "seconds": seconds,
        }
        replace_checkpoint(self.path, state)

    def one_step(self, picture: Tensor, *, adversarial: bool) -> dict[str, Tensor]:
        """One step on pictures [B, 3, H, W] in [-1, 1]; the losses and the PSNR in dB."""
        if self._learn is None or self._learn[0] != adversarial:
            self.optimizer.zero_grad(set_to_none=True)
            self._learn = adversarial, Captured(partial(self._one_step, adversarial=adversarial), generator=self.generator)
        values = self._learn[1](picture)
        update_average(self.average, self.network, step=self.step)
        return values

    def _one_step(self, picture: Tensor, *, adversarial: bool) -> dict[str, Tensor]:
        few = picture[: self.scale.moved]
        places = places_of(small_motions(len(few), generator=self.generator), picture.shape[-1])
        grain = GRAIN * torch.randn(few.shape, device=self.device, generator=self.generator)
        both = torch.cat([picture, moved(few, places, mode="bicubic") + grain])
        latent = encoded(self.network, both)
        shares = NOISE * torch.rand(len(both), 1, 1, 1, device=self.device, generator=self.generator)
        noise = torch.randn(latent.shape, device=self.device, generator=self.generator)
        noise[len(picture) :] = noise[: len(few)]
        shares[len(picture) :] = shares[: len(few)]
        made = decoded(self.network.decoder, latent + shares * noise)
        comparison = self.critics.compare(made[: len(picture)], picture, adversarial=adversarial)
        spread = latent_spread(latent)
        steady = unsteadiness(made[: len(few)], made[len(picture) :], places)
        loss = comparison.loss + SPREAD * spread + STEADY * steady
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        critic = self.critics.learn(comparison)
        mse = F.mse_loss(made[: len(picture)].detach().clamp(-1, 1), picture)
        values = {**comparison.values, "spread": spread, "steady": steady, "critic": critic, "psnr": -10 * torch.log10(mse / 4)}
        return {name: value.detach() for name, value in values.items()}

    def run(self, pool: PairPool, *, minutes: float) -> None:
        """Train until `minutes` in all are used up."""
        path = self.work / "autoencoder.csv"
        with TrainingRecord(path, title="autoencoder", budget_seconds=60 * minutes, spent_seconds=self.seconds) as record:
            while record.fraction < 1.0:
                if self.step % RENEW_STEPS == 0:
                    pool.renew(wait=False)
                share = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * record.fraction))
                set_rate(self.optimizer, LEARNING_RATE * share * min(1.0, (self.step + 1) / 50))
                values = self.one_step(pool.pictures(self.scale.pictures), adversarial=record.fraction > CRITICS_FROM)
                self.step += 1
                record.note_every(NOTE_STEPS, step=self.step, values=values)
                if self.step % CHECKPOINT_STEPS == 0:
                    self.save(record.spent_seconds)
            self.save(record.spent_seconds)
