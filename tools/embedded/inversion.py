"""What the denoiser must hear to paint each look and style best, beside what the text encoder says: a shift for each of them.

Gal et al. 2022, "An image is worth one word": the networks stand still, and what a concept is told by learns from the concept's pictures.
Here that is one vector, added to the text encoder's output at every place. The tuning then teaches the text encoder to say it by itself.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from .checkpoint import replace_checkpoint
from .concepts import Concept
from .conditioned import Conditioned
from .critics import picture_loss
from .finishing import Finisher, on_device, signed
from .latents import decoded, encoded
from .networks import TEXT_WIDTH
from .pairs import DrawnPairs, PairArtist
from .perceptual import PerceptualLoss
from .precision import quickly
from .prompts import PLAIN_PHRASES
from .recipes import EachInTurn
from .record import TrainingRecord
from .style_distance import StyleDistance
from .tokenizer import token_ids

LEARNING_RATE = 0.05  # of unit spread, at most, each time a concept is met
PIXELS = 0.5  # weight of pixels beside style
NOTE_STEPS, CHECKPOINT_STEPS = 10, 100


def plain_ids(tokenizer: CLIPTokenizer, concepts: Sequence[Concept]) -> Tensor:
    """Token ids [K, PLAIN_PHRASES, 32] of the plain prompts of every concept."""
    phrases = [concept.phrases[n % len(concept.phrases)] for concept in concepts for n in range(PLAIN_PHRASES)]
    return torch.tensor(token_ids(tokenizer, phrases)).unflatten(0, (len(concepts), PLAIN_PHRASES))


@torch.no_grad()
def plain_texts(encoder: CLIPTextModel, ids: Tensor) -> Tensor:
    """[K, PLAIN_PHRASES, 32, width]: what the text encoder says of the prompts with `ids`."""
    ids = ids.to(next(encoder.parameters()).device)
    return torch.cat([encoder(part).last_hidden_state for part in ids.flatten(0, 1).split(256)]).unflatten(0, ids.shape[:2])


def learned_shifts(work: Path, concepts: int) -> Tensor:
    """The shifts [K, width] that this run has learned; 0 where it has not."""
    path = work / "shifts.pt"
    return torch.load(path, map_location="cpu", weights_only=True)["shifts"] if path.exists() else torch.zeros(concepts, TEXT_WIDTH)


class PaintedStyles:
    """Pictures of every look and style in turn, as the finished denoiser paints them and as they should be; the networks stand still.

    network: averaged, as it left its training. artist: draws the pairs, under recipes of its own.
    """

    def __init__(self, network: Conditioned, autoencoder: AutoencoderTiny, artist: PairArtist, finisher: Finisher) -> None:
        self.device = finisher.device
        self.network, self.autoencoder = network.requires_grad_(False).eval(), autoencoder.requires_grad_(False)
        self.artist, self.finisher = artist, finisher
        self.artist.book = EachInTurn(finisher.concepts)
        self.eye = PerceptualLoss().to(self.device)
        self.distance = StyleDistance(self.eye.channels).to(self.device)

    def seed(self, seed: int) -> None:
        """Begin the random numbers anew."""
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.draws = np.random.default_rng([seed, 4])

    def losses(self, pairs: DrawnPairs, text: Tensor) -> dict[str, Tensor]:
        """What is wrong with the one-step pictures that the denoiser paints of the photos when told `text` [B, 32, width]."""
        photos, wanted = signed(on_device(pairs.contents, self.device)), signed(self.finisher(pairs))
        content = encoded(self.autoencoder, photos)
        noise = torch.randn(content.shape, generator=self.generator, device=self.device)
        level = torch.ones(len(content), device=self.device)
        made = decoded(self.network.decoder, self.network.estimate(noise, content, level, text))
        with quickly(self.device):
            mine, right = self.eye.features(made), self.eye.features(wanted)
        return {"style": self.distance(mine, right), "pixels": picture_loss(made, wanted)}


class Inversion:
    """State of one run that can be stopped and taken up again from its checkpoint."""

    def __init__(self, work: Path, styles: PaintedStyles, *, tokenizer: CLIPTokenizer, seed: int) -> None:
        self.path, self.work, self.styles, self.device = work / "shifts.pt", work, styles, styles.device
        concepts = styles.finisher.concepts
        self.texts = plain_texts(styles.network.text_encoder, plain_ids(tokenizer, concepts))
        self.shifts = torch.zeros(len(concepts), TEXT_WIDTH, device=self.device, requires_grad=True)
        self.optimizer = torch.optim.SparseAdam([self.shifts], lr=LEARNING_RATE, betas=(0.9, 0.99))
        self.step, self.seconds = 0, 0.0
        if self.path.exists():
            state = torch.load(self.path, map_location=self.device, weights_only=True)
            self.shifts.data.copy_(state["shifts"])
            self.optimizer.load_state_dict(state["optimizer"])
            styles.distance.load_state_dict(state["distance"])
            self.step, self.seconds = state["step"], state["seconds"]
        styles.seed(seed + self.step)

    def one_step(self, count: int) -> dict[str, Tensor]:
        """One step on `count` new pairs; the losses."""
        pairs = self.styles.artist.drawn(count, self.styles.draws)
        numbers = on_device(pairs.recipes[:, 0], self.device)
        phrase = torch.randint(PLAIN_PHRASES, (count,), generator=self.styles.generator, device=self.device)
        values = self.styles.losses(pairs, self.texts[numbers, phrase] + F.embedding(numbers, self.shifts, sparse=True)[:, None])
        self.optimizer.zero_grad(set_to_none=True)
        (values["style"] + PIXELS * values["pixels"]).backward()
        self.optimizer.step()
        return {name: value.detach() for name, value in values.items()}

    def save(self, seconds: float) -> None:
        """Replace the checkpoint."""
        state = {"shifts": self.shifts.detach(), "optimizer": self.optimizer.state_dict(), "distance": self.styles.distance.state_dict()}
        replace_checkpoint(self.path, {**state, "step": self.step, "seconds": seconds})

    def run(self, *, batch: int, minutes: float) -> None:
        """Learn until `minutes` in all are used up."""
        path = self.work / "inversion.csv"
        with TrainingRecord(path, title="inversion", budget_seconds=60 * minutes, spent_seconds=self.seconds) as record:
            while record.fraction < 1.0:
                share = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * record.fraction))
                self.optimizer.param_groups[0]["lr"] = LEARNING_RATE * share
                values = self.one_step(batch)
                self.step += 1
                record.note_every(NOTE_STEPS, step=self.step, values=values)
                if self.step % CHECKPOINT_STEPS == 0:
                    self.save(record.spent_seconds)
            self.save(record.spent_seconds)
