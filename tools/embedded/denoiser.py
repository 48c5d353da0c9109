"""Training of the denoiser on latents, with a pixel and a perceptual loss through the decoder near the end."""

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
from .autoencoder import to_signed
from .critics import Comparison, PictureCritics
from .latents import LatentBatch, LatentBatches
from .pace import ThreadPace
from .pairs import seeded_noise
from .prompts import PromptWriter
from .recipes import Recipe
from .record import TrainingRecord
from .tokenizer import token_ids

BATCH = 32
PIXEL_BATCH = 24
LARGE_BATCH = 6
LEARNING_RATE = 1e-3
DECODER_RATE, TEXT_RATE = 0.3, 0.2  # of the learning rate: decoder and text encoder are trained already
UNPROMPTED = 0.1  # share of samples with the empty prompt, whose picture is the photo
LARGE_FROM = 0.8  # share of the time after which every second batch is of 256-pixel pictures
PIXELS_FROM = 0.86  # share of the time after which the pixel and perceptual losses join
PIXEL_SHARE = 0.4  # of a batch whose pictures are decoded
JITTER = 0.15  # noise added to the photo's latent, at most: the grain of a camera must not boil in the picture
AVERAGE_DECAY = 0.998
CHECKPOINT_STEPS = 500
NOTE_STEPS = 25
GROW_STEPS = 100  # another shard joins every so many steps


class Conditioned(nn.Module):
    """(x_s, content, s, text) -> velocity [B, 4, H, W]; `text` [B, 32, width] comes from `texts`.

    The text encoder and `decoder`, the autoencoder's second half, come trained and learn on, the decoder once the pixel loss has
    joined.
    """

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel, decoder: nn.Module) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder.requires_grad_(True)
        self.decoder = copy.deepcopy(decoder).requires_grad_(True)

    def texts(self, ids: Tensor) -> Tensor:
        """What the network is told of token ids [B, 32]."""
        states: Tensor = self.text_encoder(ids).last_hidden_state
        return states

    def forward(self, x_s: Tensor, content: Tensor, s: Tensor, text: Tensor) -> Tensor:
        both = torch.cat([x_s, content], dim=1).contiguous(memory_format=torch.channels_last)
        velocity: Tensor = self.unet(both, 1000.0 * s, text).sample
        return velocity.float()


@dataclass(frozen=True)
class Prompted:
    """Writes the prompts of a batch and gives their token ids."""

    tokenizer: CLIPTokenizer
    writer: PromptWriter

    def emphasis(self, recipe: Recipe) -> float:
        """How often a recipe is taken up, as a share: named styles and looks are what a person asks for, tags and mixtures come after."""
        share = 0.3 if self.writer.concepts[recipe.first].kind == "tags" else 1.0
        return share * (0.5 if recipe.second >= 0 else 1.0)

    def ids(self, batch: LatentBatch, generator: np.random.Generator) -> Tensor:
        """[B, 32]; the empty prompt where the photo stays."""
        texts = ["" if recipe is None else self.writer(recipe, generator) for recipe in batch.recipes]
        return torch.tensor(token_ids(self.tokenizer, texts))


def start_noise(batch: LatentBatch, *, generator: torch.Generator) -> Tensor:
    """Unit noise like the latents; the noise that a texture was made from where there is no photo."""
    noise = torch.randn(batch.content.shape, generator=generator)
    for i, recipe in enumerate(batch.recipes):
        if recipe is not None and recipe.noise_seed >= 0:
            noise[i] = seeded_noise(recipe.noise_seed, side=8 * noise.shape[-1])
    return noise


def denoising_loss(
    network: Conditioned, batch: LatentBatch, ids: Tensor, directions: Tensor, *, generator: torch.Generator, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean squared error of the estimated x0 [B], the estimate without the seed's light [B, 4, h, w], the noise levels [B]."""
    content, target = batch.content.to(device), batch.target.to(device)
    noise = start_noise(batch, generator=generator).to(device)
    on_photo = torch.tensor([recipe is not None and recipe.noise_seed < 0 for recipe in batch.recipes], device=device)
    painted = torch.tensor([recipe is not None and recipe.noise_seed >= 0 for recipe in batch.recipes], device=device)
    s = flow.draw_sigmas(len(content), generator=generator).to(device)
    share = flow.draw_shares(len(content), generator=generator).to(device)
    share = torch.where(painted, torch.ones_like(share), share)  # without a photo a stream starts from noise alone
    light = on_photo[:, None, None, None] * flow.seed_light(noise, directions.to(device))
    target = target + light
    wanted = flow.goal(content, target, share, s)
    grain = JITTER * torch.rand(len(content), 1, 1, 1, generator=generator) * torch.randn(content.shape, generator=generator)
    content = torch.where(painted[:, None, None, None], content, content + grain.to(device))
    x_s = flow.noisy(flow.mixture(content, target, share), noise, s)
    with torch.autocast(device.type, torch.bfloat16):
        velocity = network(x_s, content, s, network.texts(ids.to(device)))
    x0 = flow.denoised(x_s, velocity, s)
    return (x0 - wanted).square().mean(dim=(1, 2, 3)), x0 - light, s


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

    def __init__(self, work: Path, prompted: Prompted, network: Conditioned, autoencoder: AutoencoderTiny, device: torch.device) -> None:
        self.path = work / "denoiser.pt"
        self.work, self.device, self.autoencoder, self.prompted = work, device, autoencoder, prompted
        self.network = network.to(device)
        self.average = copy.deepcopy(self.network)
        for each in (self.network, self.average):
            each.unet.to(memory_format=torch.channels_last)
        groups = [
            {"params": list(self.network.unet.parameters()), "share": 1.0},
            {"params": list(self.network.decoder.parameters()), "share": DECODER_RATE},
            {"params": list(self.network.text_encoder.parameters()), "share": TEXT_RATE},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.01)
        self.critics = PictureCritics(device)
        polished = work / "decoder.pt"
        if polished.exists():  # the discriminators know a decoder's faults already
            self.critics.load_state_dict(torch.load(polished, map_location=device, weights_only=True))
        self.step, self.seconds = 0, 0.0
        if self.path.exists():
            state = torch.load(self.path, map_location=device, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            if "critics" in state:
                self.critics.load_state_dict(state)
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
            **self.critics.state_dict(),
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
        directions = small.colour_directions()
        pace = ThreadPace(threads=torch.get_num_threads())
        choice = np.random.default_rng([seed, self.step])
        generator = torch.Generator().manual_seed(seed + self.step)
        with TrainingRecord(
            self.work / "denoiser.csv", title="denoiser", budget_seconds=minutes * 60, spent_seconds=self.seconds
        ) as record:
            while record.fraction < 1.0:
                if self.step % GROW_STEPS == 0:
                    small.grow()
                    if record.fraction > LARGE_FROM / 2:
                        large.grow()
                for group in self.optimizer.param_groups:
                    group["lr"] = group["share"] * learning_rate(self.step, record.fraction)
                pixels = record.fraction > PIXELS_FROM
                is_large = bool(large.shards) and record.fraction > LARGE_FROM and self.step % 2 == 0
                source, count = (large, LARGE_BATCH) if is_large else (small, PIXEL_BATCH if pixels else BATCH)
                keep = self.prompted.emphasis
                batch = source.batch(count, generator=choice, unprompted=UNPROMPTED, pictures=pixels, keep=keep)
                values = self._one_step(batch, self.prompted.ids(batch, choice), directions, generator)
                self.step += 1
                if self.step % NOTE_STEPS == 0:
                    pace.follow()
                    record.note(step=self.step, values=values)
                if self.step % CHECKPOINT_STEPS == 0 or record.fraction >= 1.0:
                    self.save(record.spent_seconds)
                    on_checkpoint()

    def _one_step(self, batch: LatentBatch, ids: Tensor, directions: Tensor, generator: torch.Generator) -> dict[str, float]:
        errors, x0, s = denoising_loss(self.network, batch, ids, directions, generator=generator, device=self.device)
        loss = errors.mean()
        values = {"latent": loss.item(), "one_step": errors[s >= 1].mean().item() if bool((s >= 1).any()) else math.nan}
        values |= dict.fromkeys(("pixels", "places", "textures", "critic"), math.nan)
        comparison = None
        if batch.pictures is not None:
            comparison = self._decoded(x0, batch.pictures, s)
            loss = loss + comparison.loss
            values |= {name: value.item() for name, value in comparison.values.items()}
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        if comparison is not None:
            values["critic"] = self.critics.learn(comparison).item()
        update_average(self.average, self.network, step=self.step)
        return values

    def _decoded(self, x0: Tensor, pictures: np.ndarray, s: Tensor) -> Comparison:
        """The decoded estimates that start from the most noise, where the estimate is the finished picture, beside it."""
        chosen = s.argsort(descending=True)[: max(int(len(s) * PIXEL_SHARE), 1)]
        chosen = chosen[s[chosen] >= 1] if bool((s[chosen] >= 1).any()) else chosen[:1]
        wanted = to_signed(pictures[chosen.cpu().numpy()], device=self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            made = self.network.decoder(x0[chosen])
        return self.critics.compare(made, wanted, adversarial=True)
