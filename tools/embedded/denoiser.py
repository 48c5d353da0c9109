"""Training of the denoiser: flow matching on latents, and its one-step pictures compared with the wanted ones through the decoder."""

import copy
import math
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from . import flow
from .averaging import update_average
from .captured import Captured, adam, set_rate
from .checkpoint import replace_checkpoint
from .conditioned import Conditioned
from .critics import Comparison, PictureCritics
from .denoiser_batch import Batch, random_windows, wide
from .finishing import signed
from .latents import decoded, encoded
from .motion import GRAIN, moved, places_of, small_motions, unsteadiness
from .pair_pool import PairBatch, PairPool
from .precision import quickly
from .record import TrainingRecord
from .scale import Scale

LEARNING_RATE = 1e-3
FINISHED_RATE = 0.1  # of the learning rate, for a network that comes finished
DECODER_RATE = 0.4  # of the learning rate: the decoder is trained already
PIXELS_FROM = 0.04  # share of the time after which the one-step pictures are compared
CRITICS_FROM = 0.3  # and the discriminators join in
LATENT_END = 0.5  # weight of the latent error once pictures are compared
STEADY = 4.0  # weight of steadiness
CONTRAST = 0.5  # standard deviation of usual pictures in [-1, 1]
CHECKPOINT_SECONDS = 200.0
NOTE_STEPS = 25
RENEW_STEPS = 3  # new pairs come in every so many steps


def learning_rate(step: int, fraction: float) -> float:
    """Warm-up over 200 steps, flat, then a cosine to 2 % over the last 60 % of the time."""
    decline = max(0.0, (fraction - 0.4) / 0.6)
    return LEARNING_RATE * min(1.0, (step + 1) / 200) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * decline)))


class DenoiserTraining:
    """State of one training run that can be stopped and taken up again from its checkpoint.

    empty: token ids [32] of the empty prompt. autoencoder: frozen; its decoder is where the run's own decoder begins. finished: the network
    comes trained; it learns on with smaller steps, and its pictures are compared from the first one.
    """

    def __init__(
        self,
        work: Path,
        network: Conditioned,
        autoencoder: AutoencoderTiny,
        *,
        empty: Tensor,
        device: torch.device,
        scale: Scale,
        seed: int,
        finished: bool = False,
    ) -> None:
        self.finished, self.rate = finished, FINISHED_RATE if finished else 1.0
        self.path, self.work, self.device, self.scale = work / "denoiser.pt", work, device, scale
        self.autoencoder, self.empty = autoencoder.to(device, memory_format=torch.channels_last), empty.to(device)
        self.network = network.to(device)
        self.average = copy.deepcopy(self.network)
        for each in (self.network, self.average):
            each.unet.to(memory_format=torch.channels_last)
            each.decoder.to(memory_format=torch.channels_last)
        groups = [
            {"params": list(self.network.unet.parameters()), "share": 1.0},
            {"params": list(self.network.decoder.parameters()), "share": DECODER_RATE},
        ]
        self.optimizer = adam(groups, rate=LEARNING_RATE, betas=(0.9, 0.99), decay=0.01, device=device)
        self.critics = PictureCritics(device)
        known = work / "autoencoder.pt"
        if known.exists():  # the discriminators know a decoder's faults already
            self.critics.load_state_dict(torch.load(known, map_location=device, weights_only=True))
        self.generator = torch.Generator(device).manual_seed(seed)
        self.step, self.seconds = 0, 0.0
        self._learn: tuple[tuple[bool, bool], Captured] | None = None
        if self.path.exists():
            state = torch.load(self.path, map_location=device, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.critics.load_state_dict(state)
            self.step, self.seconds = state["step"], state["seconds"]
            self.generator.manual_seed(seed + self.step)

    def finished_autoencoder(self) -> AutoencoderTiny:
        """The autoencoder with the averaged decoder of this run."""
        finished = copy.deepcopy(self.autoencoder)
        finished.decoder.load_state_dict(self.average.decoder.state_dict())
        return finished

    def save(self, seconds: float) -> None:
        """Replace the checkpoint."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **self.critics.state_dict(),
            "step": self.step,
            "seconds": seconds,
        }
        replace_checkpoint(self.path, state)

    def run(self, pool: PairPool, *, minutes: float, on_checkpoint: Callable[[], None]) -> None:
        """Train until `minutes` in all are used up."""
        directions = pool.colour_directions()
        saved = self.seconds
        with TrainingRecord(
            self.work / "denoiser.csv", title="denoiser", budget_seconds=minutes * 60, spent_seconds=self.seconds
        ) as record:
            while record.fraction < 1.0:
                if self.step % RENEW_STEPS == 0:
                    pool.renew(wait=False)
                set_rate(self.optimizer, self.rate * learning_rate(self.step, record.fraction))
                values = self.one_step(pool.batch(self.scale.latents), directions, fraction=record.fraction)
                self.step += 1
                record.note_every(NOTE_STEPS, step=self.step, values=values)
                if record.spent_seconds - saved > CHECKPOINT_SECONDS:
                    saved = record.spent_seconds
                    self.save(saved)
                    on_checkpoint()
            self.save(record.spent_seconds)
            on_checkpoint()

    def one_step(self, pairs: PairBatch, directions: Tensor, *, fraction: float) -> dict[str, Tensor]:
        """One step; the losses. `fraction` of the time decides which of them count."""
        losses = (self.finished or fraction > PIXELS_FROM, self.scale.critics and fraction > CRITICS_FROM)
        if self._learn is None or self._learn[0] != losses:
            self.optimizer.zero_grad(set_to_none=True)
            step = partial(self._one_step, pictures=losses[0], adversarial=losses[1])
            self._learn = losses, Captured(step, generator=self.generator)
        with quickly(self.device):
            texts = self.network.texts(torch.cat([pairs.ids, self.empty[None]]))
        values = self._learn[1](texts, directions, *(getattr(pairs, field.name) for field in fields(pairs)))
        update_average(self.average, self.network, step=self.step)
        return values

    def _one_step(self, texts: Tensor, directions: Tensor, *tensors: Tensor, pictures: bool, adversarial: bool) -> dict[str, Tensor]:
        """`texts` [B + 1, 32, width]: the prompts' and the empty one's; `tensors`: those of the pairs, in their order."""
        pairs = PairBatch(*tensors)
        batch = Batch(pairs, texts[:-1], texts[-1:], directions, self.generator)
        x0 = self.network.estimate(batch.x_s, batch.content, batch.s, batch.texts)
        errors = (x0 - batch.wanted).square().mean(dim=(1, 2, 3))
        values = {"latent": errors.mean(), "one_step": errors[: len(errors) // 2].mean()}
        values |= {name: x0.new_full((), math.nan) for name in ("pixels", "places", "textures", "styles", "steady", "critic")}
        loss, comparison = values["latent"], None
        if pictures:
            comparison = self._compared(batch, pairs, x0, adversarial=adversarial)
            steady, astray = self._unsteadiness(pairs, texts, directions)
            values |= {**comparison.values, "steady": steady}
            loss = LATENT_END * (loss + astray) + comparison.loss + STEADY * steady
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([p for group in self.optimizer.param_groups for p in group["params"]], 1.0)
        self.optimizer.step()
        if comparison is not None and self.scale.critics:
            values["critic"] = self.critics.learn(comparison)
        return {name: value.detach() for name, value in values.items()}

    def _compared(self, batch: Batch, pairs: PairBatch, x0: Tensor, *, adversarial: bool) -> Comparison:
        """The estimates that are finished pictures, from noise alone and from the noised finished picture, against what is wanted;
        beside them finished pictures' own latents, which the decoder must go on to rebuild.
        """
        half, few = len(x0) // 2, self.scale.decoded // 4
        chosen = [slice(0, self.scale.decoded - few), slice(half, half + few)]
        estimates = x0 - batch.light
        rebuilt = slice(len(x0) - self.scale.rebuilt, len(x0))
        latents = torch.cat([*(estimates[rows] for rows in chosen), pairs.target[rebuilt]])
        wanted = torch.cat([*(batch.pictures[rows] for rows in chosen), pairs.targets[rebuilt]])
        latents, wanted = random_windows([latents, wanted], self.scale.side, self.scale.window, self.generator)
        made = decoded(self.network.decoder, latents)
        wanted = signed(wanted)
        return self.critics.compare(made, wanted, adversarial=adversarial)

    def _unsteadiness(self, pairs: PairBatch, texts: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """How unlike the picture of a moved photo is to the moved picture of the photo, from the same noise, as in a stream; and how far
        the pictures of the photos are from the wanted ones, in latents and as pictures. Without the second, flat grey would be the
        steadiest. What unlike means is told by the contrast of the wanted pictures: of the made ones, a network learns to shout.
        """
        rows = slice(0, self.scale.moved)
        count = self.scale.moved
        parts = [pairs.content[rows], pairs.target[rows], pairs.contents[rows]]
        own, target, contents = random_windows(parts, self.scale.side, self.scale.window, self.generator)
        photos = signed(contents)
        motions = small_motions(count, generator=self.generator)
        motions = torch.where(wide(pairs.painted[rows])[..., 0], torch.eye(2, 3, device=self.device), motions)  # no photo, no motion
        places = places_of(motions, photos.shape[-1])
        grain = GRAIN * torch.randn(photos.shape, device=self.device, generator=self.generator)
        with torch.no_grad(), quickly(self.device):
            later = moved(photos, places, mode="bicubic") + grain
            later = encoded(self.autoencoder, later)
        content = torch.where(wide(pairs.painted[rows]), 0.0, torch.stack([own, later])).flatten(0, 1)
        noise = torch.randn(count, *content.shape[1:], device=self.device, generator=self.generator)
        light = flow.seed_light(noise, directions).repeat(2, 1, 1, 1)
        s = 0.3 + 0.7 * torch.rand(count, device=self.device, generator=self.generator)
        s = torch.where(torch.arange(count, device=self.device) % 3 == 0, 1.0, s).repeat(2)
        x_s = flow.noisy(content, noise.repeat(2, 1, 1, 1), s)
        x0 = self.network.estimate(x_s, content, s, texts[rows].repeat(2, 1, 1)) - light * wide(s)
        made = decoded(self.network.decoder, x0)
        earlier, later_made = made.chunk(2)
        wanted = flow.goal(own, target, torch.zeros_like(s[:count]), s[:count])
        with torch.no_grad():
            shown = decoded(self.network.decoder, wanted)
        photo = wide(~pairs.painted[rows])
        astray = ((x0[:count] - wanted) * photo).square().mean() + ((earlier - shown) * photo).abs().mean()
        return CONTRAST * unsteadiness(earlier, later_made, places) / shown.std().clamp(min=0.05), astray
