"""The text encoder tuned to the finished denoiser: what any phrase tells it shall be what the plain prompts of that look tell it.

The denoiser has heard a look's name and its own prompt most, and draws it best for these. Here it stands still, and so no picture is
needed: phrases are compared by what the denoiser reads from them, its time embedding and the outputs of its cross-attention.
"""

import copy
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from .checkpoint import replace_checkpoint
from .conditioned import quickest_attention
from .precision import quickly
from .record import TrainingRecord
from .text_examples import Examples

QUERIES = 24  # places of the picture that ask, for each layer
LEARNING_RATE = 5e-4
PLAIN = 2.0  # weight of the plain prompts
NOTE_STEPS, CHECKPOINT_STEPS = 20, 400


class Readout(nn.Module):
    """What a denoiser reads from texts [B, 32, width]: [B, R], each part at about unit spread.

    The parts are the pooled text in its time embedding, and for `queries` of every cross-attention what comes back to them.
    """

    def __init__(self, unet: UNet2DConditionModel, content: Tensor, text: Tensor, *, generator: torch.Generator) -> None:
        super().__init__()
        self.pooled = unet.add_embedding
        self.layers = nn.ModuleList(module for name, module in unet.named_modules() if name.endswith("attn2"))
        asked = self._asked(unet, content, text, generator)
        self.queries = nn.ParameterList(nn.Parameter(query) for query in asked)
        self.requires_grad_(False)
        self.scales = [1.0] * (1 + len(self.layers))
        with torch.no_grad():
            self.scales = [1 / max(float(part.std(dim=0).mean()), 1e-6) for part in self._parts(text)]

    @torch.no_grad()
    def _asked(self, unet: UNet2DConditionModel, content: Tensor, text: Tensor, generator: torch.Generator) -> list[Tensor]:
        """Queries [QUERIES, inner] of every layer while the denoiser paints `content` [N, C, h, w] by `text` [N, 32, width]."""
        found: list[Tensor] = []
        hooks = [layer.to_q.register_forward_hook(lambda module, given, made: found.append(made.flatten(0, 1))) for layer in self.layers]
        noise = torch.randn(content.shape, generator=generator, device=content.device)
        unet(torch.cat([noise, content], dim=1), torch.full((len(content),), 1000.0, device=content.device), text)
        for hook in hooks:
            hook.remove()
        return [rows[torch.randperm(len(rows), generator=generator, device=rows.device)[:QUERIES]].clone() for rows in found]

    def _parts(self, text: Tensor) -> list[Tensor]:
        parts = [self.pooled(text)]
        for layer, query in zip(self.layers, self.queries, strict=True):
            heads = int(layer.heads)
            key, value = (made.unflatten(2, (heads, -1)).transpose(1, 2) for made in (layer.to_k(text), layer.to_v(text)))
            asked = query.unflatten(1, (heads, -1)).transpose(0, 1).expand(len(text), -1, -1, -1)
            parts.append(F.scaled_dot_product_attention(asked, key, value).flatten(1))
        return parts

    def forward(self, text: Tensor) -> Tensor:
        parts = zip(self._parts(text), self.scales, strict=True)
        return torch.cat([scale * part / math.sqrt(part.shape[1]) for part, scale in parts], dim=1)


@torch.no_grad()
def plain_readouts(readout: Readout, texts: Tensor, shifts: Tensor) -> Tensor:
    """[K, P, R]: what each of the plain prompts of every concept, `texts` [K, P, 32, width], tells the denoiser with its shift, of `shifts`
    [K, width]."""
    return torch.stack([readout(text + shift) for text, shift in zip(texts, shifts, strict=True)])


class TextTuning:
    """State of one tuning run that can be stopped and taken up again from its checkpoint.

    encoder: as the denoiser knows it. shifts [K, width]: what every concept is told by beside it. ids [K, P, 32], plain [K, P, R]: the
    plain prompts and what they shall tell, shifts included; those of `named` come along in every step, for people ask by them most.
    examples: texts; those that ask for one look or blend several freely are tuned to the plain prompts, those with colours, light or
    two looks keep what they tell, with the shifts of their looks. finished: the encoder has been tuned before, so all texts keep what
    they tell, with the shifts.
    """

    def __init__(self, work: Path, encoder: CLIPTextModel, readout: Readout, shifts: Tensor, ids: Tensor, plain: Tensor, *,
        named: Sequence[int], finished: bool, device: torch.device) -> None:  # fmt: skip
        self.path, self.work, self.device = work / "tuned_text.pt", work, device
        self.finished = finished
        self.before = copy.deepcopy(encoder).eval().requires_grad_(False).to(device)
        self.encoder = copy.deepcopy(encoder).requires_grad_(True).to(device)
        self.shifts = shifts.to(device)
        self.readout, self.plain = readout.to(device), plain.mean(dim=1).to(device)
        self.ids, self.told = ids[named].flatten(0, 1).to(device), plain[named].flatten(0, 1).to(device)
        self.optimizer = torch.optim.AdamW(self.encoder.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
        self.step, self.seconds = 0, 0.0
        if self.path.exists():
            state = torch.load(self.path, map_location=device, weights_only=True)
            self.encoder.load_state_dict(state["encoder"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.seconds = state["step"], state["seconds"]

    def wanted(self, ids: Tensor, concepts: Tensor, shares: Tensor, kept: Tensor) -> Tensor:
        """Readouts [B, R] of texts with ids [B, T], that ask for `concepts` [B, N] by `shares`; where `kept` [B], their own of before."""
        wanted = (shares[:, :, None] * self.plain[concepts]).sum(dim=1)
        if bool(kept.any()):
            shifts = shares[kept][:, None] @ self.shifts[concepts[kept]]
            wanted[kept] = self.readout(self.before(ids[kept]).last_hidden_state + shifts).to(wanted)
        return wanted

    def one_step(self, examples: Examples, rows: np.ndarray) -> dict[str, Tensor]:
        """One step on these rows of the examples and as many plain prompts; the errors of both."""
        ids = torch.from_numpy(examples.ids[rows]).long().to(self.device)
        concepts = torch.from_numpy(examples.concepts[rows]).long().to(self.device)
        shares = torch.from_numpy(examples.shares[rows]).float().to(self.device)
        mixed = (examples.shares[rows, 1] > 0) & (examples.sentences[rows] < 0)
        kept = torch.from_numpy((examples.rest[rows] != 0).any(axis=1) | mixed | self.finished).to(self.device)
        named = torch.from_numpy(rows % len(self.ids)).to(self.device)
        with quickly(self.device), quickest_attention(self.device):
            with torch.no_grad():
                wanted = torch.cat([self.wanted(ids, concepts, shares, kept), self.told[named]])
            told = self.readout(self.encoder(torch.cat([ids, self.ids[named]])).last_hidden_state).float()
        errors = (told - wanted).square().sum(dim=1)
        general, plain = errors[: len(ids)].mean(), errors[len(ids) :].mean()
        self.optimizer.zero_grad(set_to_none=True)
        (general + PLAIN * plain).backward()
        nn.utils.clip_grad_norm_(self.encoder.parameters(), 1.0)
        self.optimizer.step()
        return {"general": general.detach(), "plain": plain.detach()}

    def save(self, seconds: float) -> None:
        """Replace the checkpoint."""
        state = {"encoder": self.encoder.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step, "seconds": seconds}
        replace_checkpoint(self.path, state)

    def run(self, examples: Examples, *, batch: int, minutes: float, seed: int) -> None:
        """Tune until `minutes` in all are used up."""
        generator = np.random.default_rng([seed, self.step])
        with TrainingRecord(self.work / "tuning.csv", title="tuning", budget_seconds=60 * minutes, spent_seconds=self.seconds) as record:
            while record.fraction < 1.0:
                share = min(1.0, (self.step + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * record.fraction)))
                for group in self.optimizer.param_groups:
                    group["lr"] = LEARNING_RATE * share
                values = self.one_step(examples, generator.integers(len(examples.ids), size=batch))
                self.step += 1
                record.note_every(NOTE_STEPS, step=self.step, values=values)
                if self.step % CHECKPOINT_STEPS == 0:
                    self.save(record.spent_seconds)
            self.save(record.spent_seconds)
