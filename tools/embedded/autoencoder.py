"""Training of the small autoencoder: rebuilds photos and their looks, by pixels and by the features of an ImageNet network.

Fresh weights are led by TAESD's latents; weights that begin from a finished model keep the latents they have.
"""

import copy
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import Tensor

from .networks import new_autoencoder
from .pairs import open_shard, shard_paths
from .perceptual import PerceptualLoss
from .record import TrainingRecord
from .tones import Picture

BATCH = 16
SIDE = 128  # pixels of the training pictures
LEARNING_RATE = 1e-3
PLACES, TEXTURES, LATENT = 0.5, 1.0, 0.25  # weights of the perceptual losses and of TAESD's latents
AVERAGE_DECAY = 0.995
CHECKPOINT_STEPS = 200


def to_signed(pictures: Picture, *, device: torch.device) -> Tensor:
    """uint8 [B, H, W, 3] -> float [B, 3, H, W] in [-1, 1], channels last in memory."""
    tensor = torch.from_numpy(np.array(pictures)).to(device).permute(0, 3, 1, 2).float()
    return (tensor / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def slope_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring-pixel differences: keeps edges sharp."""
    across = F.l1_loss(made.diff(dim=3), wanted.diff(dim=3))
    return across + F.l1_loss(made.diff(dim=2), wanted.diff(dim=2))


def picture_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """L1 of pixels, of slopes, and of the pictures at a quarter of the size (large areas of colour)."""
    coarse = F.l1_loss(F.avg_pool2d(made, 4), F.avg_pool2d(wanted, 4))
    return F.l1_loss(made, wanted) + slope_loss(made, wanted) + coarse


class PictureBatches:
    """Endless random pictures out of the photos and looks of all finished shards."""

    def __init__(self, work: Path, *, seed: int) -> None:
        self.shards = [open_shard(path) for path in shard_paths(work, side=SIDE)]
        self.generator = np.random.default_rng(seed)

    def batch(self, count: int) -> Picture:
        """uint8 [count, 128, 128, 3]; one photo to four looks."""
        pictures = []
        for _ in range(count):
            shard = self.shards[int(self.generator.integers(len(self.shards)))]
            source = shard.contents if self.generator.random() < 0.2 else shard.targets
            pictures.append(source[int(self.generator.integers(len(source)))])
        return np.stack(pictures)


def load_autoencoder(path: Path) -> AutoencoderTiny:
    """The autoencoder of a checkpoint written by `train_autoencoder`, in float32, frozen."""
    network = new_autoencoder()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["network"])
    return network.eval().requires_grad_(False)


class AutoencoderTraining:
    """State of one training run that can be stopped and taken up again from its checkpoint."""

    def __init__(self, work: Path, *, taesd: Path, start: Path | None, device: torch.device) -> None:
        self.path = work / "autoencoder.pt"
        self.network = new_autoencoder()
        if start is not None:
            self.network.load_state_dict(AutoencoderTiny.from_pretrained(start / "vae").state_dict())
        self.network.to(device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.teacher: AutoencoderTiny | None = None
        if start is None:
            self.teacher = AutoencoderTiny.from_pretrained(taesd).to(device, memory_format=torch.channels_last).eval()
        self.perceptual = PerceptualLoss().to(device)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.0)
        self.step, self.seconds = 0, 0.0
        if self.path.exists():
            state = torch.load(self.path, map_location=device, weights_only=True)
            self.network.load_state_dict(state["raw"])
            self.average.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.seconds = state["step"], state["seconds"]

    def save(self, seconds: float) -> None:
        """Replace the checkpoint; its `network` are the averaged weights, which count."""
        state = {
            "network": self.average.state_dict(),
            "raw": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": seconds,
        }
        torch.save(state, self.path.with_suffix(".partial"))
        self.path.with_suffix(".partial").replace(self.path)

    def one_step(self, picture: Tensor) -> dict[str, float]:
        """One step on pictures [B, 3, H, W] in [-1, 1]; the losses and the PSNR in dB."""
        with torch.autocast(picture.device.type, torch.bfloat16):
            latent = self.network.encode(picture).latents
            made = self.network.decode(latent).sample
            places, textures = self.perceptual(made, picture)
        values = {"pixels": picture_loss(made.float(), picture), "places": places, "textures": textures}
        loss = values["pixels"] + PLACES * places + TEXTURES * textures
        if self.teacher is not None:
            few = picture[: len(picture) // 4]  # the teacher is slow; a quarter of the batch pins the latent space down
            with torch.no_grad(), torch.autocast(picture.device.type, torch.bfloat16):
                wanted = self.teacher.encode(few).latents
            values["latent"] = F.mse_loss(latent[: len(few)].float(), wanted.float())
            loss = loss + LATENT * values["latent"]
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        decay = min(AVERAGE_DECAY, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for kept, fresh in zip(self.average.parameters(), self.network.parameters(), strict=True):
                kept.lerp_(fresh, 1 - decay)
        mse = F.mse_loss(made.detach().float().clamp(-1, 1), picture).item()
        return {**{name: value.item() for name, value in values.items()}, "psnr": 10 * math.log10(4.0 / max(mse, 1e-9))}


def train_autoencoder(*, work: Path, taesd: Path, start: Path | None, minutes: float, device: torch.device, seed: int) -> None:
    """Train until the time budget is used up, from the last checkpoint on, or from the model folder `start`."""
    torch.manual_seed(seed)
    training = AutoencoderTraining(work, taesd=taesd, start=start, device=device)
    batches = PictureBatches(work, seed=seed + training.step)
    budget = minutes * 60
    with TrainingRecord(work / "autoencoder.csv", title="autoencoder", budget_seconds=budget, spent_seconds=training.seconds) as record:
        while record.fraction < 1.0:
            rate = LEARNING_RATE * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * record.fraction)))
            for group in training.optimizer.param_groups:
                group["lr"] = rate * min(1.0, (training.step + 1) / 50)
            values = training.one_step(to_signed(batches.batch(BATCH), device=device))
            training.step += 1
            if training.step % 20 == 0:
                record.note(step=training.step, values=values)
            if training.step % CHECKPOINT_STEPS == 0 or record.fraction >= 1.0:
                training.save(record.spent_seconds)
