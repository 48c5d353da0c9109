"""Polish of the autoencoder's decoder on its own: sharper texture by perceptual and adversarial losses; the latents stay as they are."""

import copy
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import nn

from .autoencoder import to_signed
from .critics import PictureCritics
from .latents import LatentBatches
from .record import TrainingRecord

BATCH = 12
LEARNING_RATE = 1e-3
CRITIC_FROM = 100  # steps
PHOTOS = 0.25  # share of photos among the pictures
AVERAGE_DECAY = 0.995
CHECKPOINT_STEPS = 100
GROW_STEPS = 50  # another shard joins every so many steps


class DecoderPolish:
    """State of the polish, resumable from its checkpoint."""

    def __init__(self, work: Path, autoencoder: AutoencoderTiny, device: torch.device) -> None:
        self.path, self.work, self.device = work / "decoder.pt", work, device
        self.autoencoder = autoencoder
        self.decoder = copy.deepcopy(autoencoder.decoder).requires_grad_(True).to(device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.decoder).requires_grad_(False)
        self.critics = PictureCritics(device)
        self.optimizer = torch.optim.AdamW(self.decoder.parameters(), lr=LEARNING_RATE, betas=(0.5, 0.99), weight_decay=0.0)
        self.step, self.seconds = 0, 0.0
        if self.path.exists():
            state = torch.load(self.path, map_location=device, weights_only=True)
            for name in ("decoder", "average", "optimizer"):
                getattr(self, name).load_state_dict(state[name])
            self.critics.load_state_dict(state)
            self.step, self.seconds = state["step"], state["seconds"]

    def save(self, seconds: float) -> None:
        """Replace the checkpoint."""
        state = {name: getattr(self, name).state_dict() for name in ("decoder", "average", "optimizer")}
        torch.save({**state, **self.critics.state_dict(), "step": self.step, "seconds": seconds}, self.path.with_suffix(".partial"))
        self.path.with_suffix(".partial").replace(self.path)

    def run(self, *, minutes: float, seed: int) -> None:
        """Train until `minutes` in all are used up."""
        batches = LatentBatches(self.work, self.autoencoder, side=128, device=self.device)
        generator = np.random.default_rng([seed, self.step])
        with TrainingRecord(self.work / "decoder.csv", title="decoder", budget_seconds=60 * minutes, spent_seconds=self.seconds) as record:
            while record.fraction < 1.0:
                if self.step % GROW_STEPS == 0 or not batches.shards:
                    batches.grow()
                share = min(1.0, (self.step + 1) / 50) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * record.fraction)))
                for group in self.optimizer.param_groups:
                    group["lr"] = LEARNING_RATE * share
                values = self._one_step(batches, generator)
                self.step += 1
                if self.step % 20 == 0:
                    record.note(step=self.step, values=values)
                if self.step % CHECKPOINT_STEPS == 0 or record.fraction >= 1.0:
                    self.save(record.spent_seconds)

    def _one_step(self, batches: LatentBatches, generator: np.random.Generator) -> dict[str, float]:
        batch = batches.batch(BATCH, generator=generator, unprompted=PHOTOS, pictures=True)
        assert batch.pictures is not None
        wanted = to_signed(batch.pictures, device=self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            made = self.decoder(batch.target.to(self.device))
        comparison = self.critics.compare(made, wanted, adversarial=self.step >= CRITIC_FROM)
        self.optimizer.zero_grad(set_to_none=True)
        comparison.loss.backward()
        nn.utils.clip_grad_norm_(self.decoder.parameters(), 1.0)
        self.optimizer.step()
        values = {**comparison.values, "critic": self.critics.learn(comparison)}
        decay = min(AVERAGE_DECAY, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for kept, fresh in zip(self.average.parameters(), self.decoder.parameters(), strict=True):
                kept.lerp_(fresh, 1 - decay)
        mse = F.mse_loss(made.detach().float().clamp(-1, 1), wanted).item()
        return {**{name: value.item() for name, value in values.items()}, "psnr": 10 * math.log10(4 / max(mse, 1e-9))}
