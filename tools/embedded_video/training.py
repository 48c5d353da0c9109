"""Trains the transformer for a time budget; stops and goes on where it was."""

import copy
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel
from embedded.precision import quickly
from embedded.record import TrainingRecord
from torch import Tensor

from .network import ClipDenoiser
from .noising import loss_of, noised
from .pool import FRAMES, SIDE, Pool

RATE, SMALL_RATE = 4e-3, 2e-3  # of matrices (Muon) and of all else (AdamW)
WARM_UP = 60  # steps
COOLED = 0.45  # share of the time over which the rate falls to nothing
AVERAGED = 0.99  # share of the past in the moving average of the weights
DREAMS = 0.5  # share of clips without an input
SAVED_EVERY = 50  # steps
CHUNKS = (1, 1, 1, 1, 1, 1, 2, 3)  # frames a chunk, one of them at random; the stream runs it with 1


@dataclass
class Training:
    """One run. prompts: [looks, N, L, D], embeddings of N ways to ask for each look."""

    transformer: WanTransformer3DModel
    pool: Pool
    prompts: Tensor
    work: Path
    batch: int = 4
    seed: int = 1

    def __post_init__(self) -> None:
        self.average = copy.deepcopy(self.transformer).requires_grad_(False)
        self.denoiser = ClipDenoiser(self.transformer, side=SIDE // 8, frames=FRAMES)
        self.optimizers = optimizers(self.transformer)
        self.generator = torch.Generator().manual_seed(self.seed)
        self.step, self.seconds = 0, 0.0
        if self.checkpoint.exists():
            self._resume()

    @property
    def checkpoint(self) -> Path:
        """Where the run is kept."""
        return self.work / "training.pt"

    def run(self, *, minutes: float) -> None:
        """Train until `minutes` are used up, those of earlier runs counted."""
        record = TrainingRecord(
            self.work / "training.csv", title="video", budget_seconds=60 * minutes, spent_seconds=self.seconds
        )  # fmt: skip
        with record:
            losses: list[float] = []
            while record.fraction < 1.0:
                losses.append(self.one_step(rate=rate_at(self.step, record.fraction)))
                self.seconds = record.spent_seconds
                if self.step % 10 == 0:
                    record.note(step=self.step, values={"loss": sum(losses) / len(losses)})
                    losses = []
                if self.step % SAVED_EVERY == 0:
                    self.save()
        self.save()

    def one_step(self, *, rate: float) -> float:
        """One step at `rate` of the full rates; the loss before it."""
        batch = self.pool.batch(self.batch, dreams=round(DREAMS * self.batch))
        clip = noised(batch, generator=self.generator)
        chunk = CHUNKS[int(torch.randint(len(CHUNKS), (), generator=self.generator))]
        ways = torch.randint(self.prompts.shape[1], (2, self.batch), generator=self.generator)
        asked = [self.prompts[batch.look, ways[0]]]
        if clip.second.any():
            asked.append(self.prompts[batch.other_look, ways[1]])
        with quickly(torch.device("cpu")):
            velocity = self.denoiser(clip.x, 1000 * clip.sigma, torch.stack(asked, 1), clip.second, chunk=chunk)
        loss = loss_of(velocity.float(), clip)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.transformer.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["full_rate"]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        kept = min(AVERAGED, self.step / (self.step + 10))
        averages, weights = list(self.average.parameters()), list(self.transformer.parameters())
        torch._foreach_lerp_(averages, weights, 1 - kept)
        return float(loss.detach())

    def save(self) -> None:
        """Write the checkpoint in one move."""
        state = {
            "transformer": self.transformer.state_dict(), "average": self.average.state_dict(), "step": self.step,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers], "seconds": self.seconds,
            "generator": self.generator.get_state(), "pool": self.pool.generator.get_state(),
        }  # fmt: skip
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.rename(self.checkpoint)

    def _resume(self) -> None:
        state = torch.load(self.checkpoint, weights_only=True)
        self.transformer.load_state_dict(state["transformer"])
        self.average.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.generator.set_state(state["generator"])
        self.pool.generator.set_state(state["pool"])
        self.step, self.seconds = state["step"], state["seconds"]


def optimizers(transformer: WanTransformer3DModel) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices of the blocks, AdamW for everything else."""
    inside = [parameter for parameter in transformer.blocks.parameters() if parameter.ndim == 2]
    known = {id(parameter) for parameter in inside}
    rest = [parameter for parameter in transformer.parameters() if id(parameter) not in known]
    made: list[torch.optim.Optimizer] = [
        torch.optim.Muon(inside, lr=RATE, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=SMALL_RATE, weight_decay=0.0, betas=(0.9, 0.98)),
    ]
    for optimizer, rate in zip(made, (RATE, SMALL_RATE), strict=True):
        for group in optimizer.param_groups:
            group["full_rate"] = rate
    return made


def rate_at(step: int, fraction: float) -> float:
    """Share of the full rate: rises over WARM_UP steps, falls as a cosine over the last COOLED of the time."""
    cooling = max(0.0, fraction - (1 - COOLED)) / COOLED
    return min(1.0, (step + 1) / WARM_UP) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * cooling)))
