"""The decoder learns on with the finished denoiser: what the denoiser paints for every look and style must show that style.

Encoder and denoiser stand still. Beside the denoiser's pictures, finished pictures and photos must go on to be rebuilt, and a photo moved
a little must come out as the photo, moved.
"""

import copy
import math
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from . import flow
from .averaging import update_average
from .conditioned import Conditioned
from .critics import PictureCritics
from .finishing import Finisher, on_device, signed
from .inversion import PLAIN_PHRASES, EachInTurn
from .latents import decoded, encoded
from .motion import GRAIN, moved, places_of, small_motions, unsteadiness
from .pairs import PairArtist
from .record import TrainingRecord

LEARNING_RATE = 3e-4
STEADY = 4.0  # weight of steadiness
NOTE_STEPS, CHECKPOINT_STEPS = 10, 50


def finished_decoder(work: Path, decoder: nn.Module) -> nn.Module:
    """A copy of `decoder`, with the weights that this stage has left in the work folder, if it has."""
    found, path = copy.deepcopy(decoder), work / "decoder.pt"
    if path.exists():
        found.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["average"])
    return found


class DecoderTraining:
    """State of one run that can be stopped and taken up again from its checkpoint.

    network: averaged, as it left its training; `texts` [K, PLAIN_PHRASES, 32, width] is what it is told of every concept. artist: draws the
    pairs, under recipes of its own.
    """

    def __init__(self, work: Path, network: Conditioned, autoencoder: AutoencoderTiny, artist: PairArtist, finisher: Finisher, *,
        texts: Tensor, seed: int) -> None:  # fmt: skip
        self.path, self.work, self.device = work / "decoder.pt", work, finisher.device
        self.network, self.autoencoder, self.texts = network.requires_grad_(False).eval(), autoencoder.requires_grad_(False), texts
        self.artist, self.finisher = artist, finisher
        self.artist.book = EachInTurn(finisher.concepts)
        self.decoder = copy.deepcopy(network.decoder).requires_grad_(True)
        self.average = copy.deepcopy(self.decoder).requires_grad_(False)
        self.critics = PictureCritics(self.device)
        self.optimizer = torch.optim.AdamW(self.decoder.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.0)
        self.step, self.seconds = 0, 0.0
        if self.path.exists():
            state = torch.load(self.path, map_location=self.device, weights_only=True)
            self.decoder.load_state_dict(state["decoder"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.critics.load_state_dict(state)
            self.step, self.seconds = state["step"], state["seconds"]
        self.generator = torch.Generator(self.device).manual_seed(seed + self.step)
        self.draws = np.random.default_rng([seed, self.step, 5])

    def one_step(self, count: int, *, few: int) -> dict[str, Tensor]:
        """One step on `count` new pairs, of which `few` finished pictures and photos are rebuilt as well; the losses."""
        pairs = self.artist.drawn(count, self.draws)
        photos, wanted = signed(on_device(pairs.contents, self.device)), signed(self.finisher(pairs))
        places = places_of(small_motions(few, generator=self.generator), photos.shape[-1])
        grain = GRAIN * torch.randn(photos[:few].shape, generator=self.generator, device=self.device)
        with torch.no_grad():
            later = encoded(self.autoencoder, moved(photos[:few], places, mode="bicubic") + grain)
            content = encoded(self.autoencoder, photos)
            painted = self._painted(content, on_device(pairs.recipes[:, 0], self.device))
            rebuilt = encoded(self.autoencoder, wanted[:few])
        made = decoded(self.decoder, torch.cat([painted, rebuilt, content[:few], later]))
        compared, later_made = made[: count + 2 * few], made[count + 2 * few :]
        comparison = self.critics.compare(compared, torch.cat([wanted, wanted[:few], photos[:few]]), adversarial=False)
        steady = unsteadiness(compared[count + few :], later_made, places)
        self.optimizer.zero_grad(set_to_none=True)
        (comparison.loss + STEADY * steady).backward()
        nn.utils.clip_grad_norm_(self.decoder.parameters(), 1.0)
        self.optimizer.step()
        update_average(self.average, self.decoder, step=self.step, decay=0.98)
        return {name: value.detach() for name, value in {**comparison.values, "steady": steady}.items()}

    def _painted(self, content: Tensor, numbers: Tensor) -> Tensor:
        """One-step latents of photos under the plain prompts of the concepts `numbers` [B]."""
        phrase = torch.randint(PLAIN_PHRASES, numbers.shape, generator=self.generator, device=self.device)
        noise = torch.randn(content.shape, generator=self.generator, device=self.device)
        level = torch.ones(len(content), device=self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            velocity = self.network(noise, content, level, self.texts[numbers, phrase])
        return flow.denoised(noise, velocity, level)

    def save(self, seconds: float) -> None:
        """Replace the checkpoint; its `average` counts."""
        state = {"decoder": self.decoder.state_dict(), "average": self.average.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save({**state, **self.critics.state_dict(), "step": self.step, "seconds": seconds}, self.path.with_suffix(".partial"))
        self.path.with_suffix(".partial").replace(self.path)

    def run(self, *, batch: int, few: int, minutes: float) -> None:
        """Learn until `minutes` in all are used up."""
        with TrainingRecord(self.work / "decoder.csv", title="decoder", budget_seconds=60 * minutes, spent_seconds=self.seconds) as record:
            while record.fraction < 1.0:
                share = min(1.0, (self.step + 1) / 20) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * record.fraction)))
                self.optimizer.param_groups[0]["lr"] = LEARNING_RATE * share
                values = self.one_step(batch, few=few)
                self.step += 1
                if self.step % NOTE_STEPS == 0:
                    record.note(step=self.step, values={name: value.item() for name, value in values.items()})
                if self.step % CHECKPOINT_STEPS == 0:
                    self.save(record.spent_seconds)
            self.save(record.spent_seconds)
