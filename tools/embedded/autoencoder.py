"""Training of the small autoencoder: rebuilds photos and their looks, with latents that match TAESD's."""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import Tensor

from .networks import new_autoencoder
from .pairs import open_shard, shard_paths
from .record import TrainingRecord
from .tones import Picture

BATCH = 16
SIDE = 96  # pixels of the training crops; the network is convolutional
LEARNING_RATE = 1.5e-3
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


def texture_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Difference in how much fine detail each 8 x 8 square holds, wherever exactly its strokes lie.

    The losses above answer doubt with blur; this one asks for as much texture as the look really has.
    """
    loss = made.new_zeros(())
    for dim in (2, 3):
        loss = loss + F.l1_loss(F.avg_pool2d(made.diff(dim=dim).abs(), 8), F.avg_pool2d(wanted.diff(dim=dim).abs(), 8))
    return loss


class PictureBatches:
    """Endless random crops of the photos and looks in all finished shards."""

    def __init__(self, work: Path, *, side: int, seed: int) -> None:
        self.shards = [open_shard(path) for path in shard_paths(work, side=128)]
        self.side = side
        self.generator = np.random.default_rng(seed)

    def batch(self, count: int) -> Picture:
        """uint8 [count, side, side, 3]; one photo to two looks."""
        pictures = []
        for _ in range(count):
            shard = self.shards[int(self.generator.integers(len(self.shards)))]
            source = shard.contents if self.generator.random() < 0.34 else shard.targets
            picture = source[int(self.generator.integers(len(source)))]
            top, left = self.generator.integers(0, picture.shape[0] - self.side + 1, size=2) // 8 * 8
            pictures.append(picture[top : top + self.side, left : left + self.side])
        return np.stack(pictures)


def load_autoencoder(path: Path) -> AutoencoderTiny:
    """The autoencoder of a checkpoint written by `train_autoencoder`, in float32, frozen."""
    network = new_autoencoder()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["network"])
    return network.eval().requires_grad_(False)


def train_autoencoder(*, work: Path, taesd: Path, minutes: float, device: torch.device, seed: int) -> Path:
    """Train until the time budget is used up, from the last checkpoint on; returns the checkpoint's path."""
    path = work / "autoencoder.pt"
    torch.manual_seed(seed)
    network = new_autoencoder().to(device, memory_format=torch.channels_last)
    teacher = AutoencoderTiny.from_pretrained(taesd).to(device, memory_format=torch.channels_last).eval()
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    step, spent = 0, 0.0
    if path.exists():
        state = torch.load(path, map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent = state["step"], state["seconds"]
    batches = PictureBatches(work, side=SIDE, seed=seed + step)
    budget = minutes * 60
    with TrainingRecord(work / "autoencoder.csv", title="autoencoder", budget_seconds=budget, spent_seconds=spent) as record:
        while record.fraction < 1.0:
            rate = LEARNING_RATE * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * record.fraction)))
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, (step + 1) / 50)
            picture = to_signed(batches.batch(BATCH), device=device)
            values = _autoencoder_step(network, teacher, optimizer, picture)
            step += 1
            if step % 20 == 0:
                record.note(step=step, values=values)
            if step % CHECKPOINT_STEPS == 0 or record.fraction >= 1.0:
                _save(path, network, optimizer, step, record.spent_seconds)
    return path


def _autoencoder_step(
    network: AutoencoderTiny, teacher: AutoencoderTiny, optimizer: torch.optim.Optimizer, picture: Tensor
) -> dict[str, float]:
    few = picture[: len(picture) // 4]  # the teacher is slow; a quarter of the batch pins the latent space down
    with torch.autocast(picture.device.type, torch.bfloat16):
        latent = network.encode(picture).latents
        made = network.decode(latent).sample
        with torch.no_grad():
            wanted = teacher.encode(few).latents
    latent_loss = F.mse_loss(latent[: len(few)].float(), wanted.float())
    loss = picture_loss(made.float(), picture) + 0.25 * latent_loss
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    mse = F.mse_loss(made.detach().float().clamp(-1, 1), picture)
    return {
        "loss": loss.item(),
        "latent": latent_loss.item(),
        "psnr": 10 * math.log10(4.0 / max(mse.item(), 1e-9)),
    }


def _save(path: Path, network: AutoencoderTiny, optimizer: torch.optim.Optimizer, step: int, seconds: float) -> None:
    partial = path.with_suffix(".partial")
    state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "seconds": seconds}
    torch.save(state, partial)
    partial.replace(path)
