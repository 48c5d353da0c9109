"""Training of the denoiser together with its text encoder, on latents, with a pixel loss near the end."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from . import flow
from .autoencoder import picture_loss, texture_loss, to_signed
from .latents import LatentBatch, LatentBatches
from .looks import LOOKS
from .networks import new_denoiser, new_text_encoder
from .pace import ThreadPace
from .prompts import prompt_variants
from .record import TrainingRecord
from .tokenizer import token_ids
from .tones import Picture

BATCH = 16
LEARNING_RATE = 1e-3
UNPROMPTED = 0.1  # share of samples with the empty prompt, whose picture is the photo
PIXELS_FROM = 0.72  # share of the time after which the pixel loss joins
LARGE_FROM = 0.85  # share of the time after which every second batch is of 256-pixel pictures
AVERAGE_DECAY = 0.998
CHECKPOINT_STEPS = 250
NOTE_STEPS = 25
GROW_STEPS = 150  # another shard joins every so many steps
VARIANTS = 96  # prompts per look


class Conditioned(nn.Module):
    """All that this stage trains, as one network: (x_s, content, s, token ids) -> velocity [B, 4, H, W].

    `decoder` is the autoencoder's second half; it learns on only once the pixel loss has joined.
    """

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel, decoder: nn.Module) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder
        self.decoder = decoder

    def forward(self, x_s: Tensor, content: Tensor, s: Tensor, ids: Tensor) -> Tensor:
        text = self.text_encoder(ids).last_hidden_state
        both = torch.cat([x_s, content], dim=1).contiguous(memory_format=torch.channels_last)
        velocity: Tensor = self.unet(both, 1000.0 * s, text).sample
        return velocity.float()


@dataclass(frozen=True)
class PromptTable:
    """Token ids of all prompt variants: `ids` [looks, variants, 32]; `empty` [32] for "leave it as it is"."""

    ids: Tensor
    empty: Tensor

    def drawn(self, looks: Tensor, *, generator: torch.Generator) -> Tensor:
        """Ids [B, 32]: a random variant for each look; look -1 is the empty prompt."""
        variant = torch.randint(self.ids.shape[1], looks.shape, generator=generator)
        chosen = self.ids[looks.clamp_min(0), variant]
        return torch.where((looks < 0)[:, None], self.empty, chosen)


def prompt_table(tokenizer: CLIPTokenizer) -> PromptTable:
    """The prompts of all looks as token ids."""
    texts = prompt_variants(LOOKS, count=VARIANTS, seed=11)
    ids = torch.tensor([token_ids(tokenizer, variants) for variants in texts])
    return PromptTable(ids=ids, empty=torch.tensor(token_ids(tokenizer, [""])[0]))


def new_conditioned(tokenizer: CLIPTokenizer, autoencoder: AutoencoderTiny) -> Conditioned:
    """Denoiser and text encoder with fresh weights, the decoder as trained; the velocity starts at zero."""
    start, end = int(tokenizer.bos_token_id), int(tokenizer.eos_token_id)
    text_encoder = new_text_encoder(vocabulary=len(tokenizer), start=start, end=end)
    unet = new_denoiser()
    nn.init.zeros_(unet.conv_out.weight)
    nn.init.zeros_(unet.conv_out.bias)
    decoder = copy.deepcopy(autoencoder.decoder).requires_grad_(True)
    return Conditioned(unet, text_encoder, decoder)


def denoising_loss(
    network: Conditioned, batch: LatentBatch, ids: Tensor, *, generator: torch.Generator, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean squared error of the estimated x0 [B], the estimate [B, 4, h, w], and the noise levels [B]."""
    content, target = batch.content.to(device), batch.target.to(device)
    count = len(content)
    s = flow.draw_sigmas(count, generator=generator).to(device)
    share = flow.draw_shares(count, generator=generator).to(device)
    noise = torch.randn(content.shape, generator=generator).to(device)
    x_s = flow.noisy(flow.mixture(content, target, share), noise, s)
    wanted = flow.goal(content, target, share, s)
    with torch.autocast(device.type, torch.bfloat16):
        velocity = network(x_s, content, s, ids.to(device))
    x0 = flow.denoised(x_s, velocity, s)
    return (x0 - wanted).square().mean(dim=(1, 2, 3)), x0, s


def update_average(average: nn.Module, network: nn.Module, *, step: int) -> None:
    """Exponential moving average of the weights, quicker in the first steps."""
    decay = min(AVERAGE_DECAY, (1 + step) / (10 + step))
    with torch.no_grad():
        for kept, fresh in zip(average.parameters(), network.parameters(), strict=True):
            kept.lerp_(fresh, 1 - decay)


def learning_rate(step: int, fraction: float) -> float:
    """Warm-up over 200 steps, flat, then a cosine to 2 % over the last 60 % of the time."""
    decline = max(0.0, (fraction - 0.4) / 0.6)
    return LEARNING_RATE * min(1.0, (step + 1) / 200) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * decline)))


class DenoiserTraining:
    """State of one training run that can be stopped and taken up again from its checkpoint."""

    def __init__(self, work: Path, tokenizer: CLIPTokenizer, autoencoder: AutoencoderTiny, device: torch.device) -> None:
        self.path = work / "denoiser.pt"
        self.work, self.device, self.autoencoder = work, device, autoencoder
        self.table = prompt_table(tokenizer)
        self.network = new_conditioned(tokenizer, autoencoder).to(device)
        self.average = copy.deepcopy(self.network)
        for network in (self.network, self.average):
            network.unet.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.01)
        self.step, self.seconds = 0, 0.0
        if self.path.exists():
            state = torch.load(self.path, map_location=device, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.seconds = state["step"], state["seconds"]

    def finished_autoencoder(self) -> AutoencoderTiny:
        """The autoencoder with the averaged decoder of this run."""
        finished = copy.deepcopy(self.autoencoder)
        finished.decoder.load_state_dict(self.average.decoder.state_dict())
        return finished

    def save(self, seconds: float) -> None:
        """Replace the checkpoint."""
        partial = self.path.with_suffix(".partial")
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": seconds,
        }
        torch.save(state, partial)
        partial.replace(self.path)

    def run(self, *, minutes: float, seed: int, on_checkpoint: Callable[[], None]) -> None:
        """Train until `minutes` in all are used up."""
        small = LatentBatches(self.work, self.autoencoder, side=128, device=self.device)
        large = LatentBatches(self.work, self.autoencoder, side=256, device=self.device)
        if not small.shards:
            small.grow()
        pace = ThreadPace(threads=torch.get_num_threads())
        choice = np.random.default_rng([seed, self.step])
        generator = torch.Generator().manual_seed(seed + self.step)
        with TrainingRecord(
            self.work / "denoiser.csv", title="denoiser", budget_seconds=minutes * 60, spent_seconds=self.seconds
        ) as record:
            while record.fraction < 1.0:
                if self.step % GROW_STEPS == 0 and not small.grow():
                    large.grow()
                for group in self.optimizer.param_groups:
                    group["lr"] = learning_rate(self.step, record.fraction)
                pixels = record.fraction > PIXELS_FROM
                is_large = bool(large.shards) and record.fraction > LARGE_FROM and self.step % 2 == 0
                count = BATCH // 4 if is_large else BATCH // 2 if pixels else BATCH
                batch = (large if is_large else small).batch(count, generator=choice, unprompted=UNPROMPTED, pictures=pixels)
                values = self._one_step(batch, generator)
                self.step += 1
                if self.step % NOTE_STEPS == 0:
                    pace.follow()
                    record.note(step=self.step, values=values)
                if self.step % CHECKPOINT_STEPS == 0 or record.fraction >= 1.0:
                    self.save(record.spent_seconds)
                    on_checkpoint()

    def _one_step(self, batch: LatentBatch, generator: torch.Generator) -> dict[str, float]:
        ids = self.table.drawn(batch.looks, generator=generator)
        errors, x0, s = denoising_loss(self.network, batch, ids, generator=generator, device=self.device)
        loss = errors.mean()
        values = {"loss": loss.item(), "one_step": errors[s == 1].mean().item(), "pixels": float("nan")}
        if batch.pictures is not None and bool((s == 1).any()):
            pixel_loss = self._pixel_loss(x0[s == 1], batch.pictures[(s == 1).cpu().numpy()])
            loss = loss + pixel_loss
            values["pixels"] = pixel_loss.item()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        update_average(self.average, self.network, step=self.step)
        return values

    def _pixel_loss(self, x0: Tensor, pictures: Picture) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16):
            made = self.network.decoder(x0)
        wanted = to_signed(pictures, device=self.device)
        return picture_loss(made.float(), wanted) + texture_loss(made.float(), wanted)
