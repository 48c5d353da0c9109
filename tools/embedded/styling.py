"""The finished denoiser taught by the pictures it paints: their style shall be told from all others.

Its one-step pictures, and those of a second step that goes on from them, are told from all others by `StyleContrast`, by the means of
all looks and by the examples of the styles, and compared with the wanted ones by `StyleDistance`, features place by place and pixels. A
frozen copy says what strengths below 1 and the empty prompt show: that stays.
"""

import copy
import math
from dataclasses import fields
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from . import flow
from .averaging import update_average
from .captured import Captured, adam, set_rate
from .checkpoint import replace_checkpoint
from .conditioned import Conditioned
from .critics import picture_loss
from .denoiser_batch import JITTER, wide
from .finishing import signed
from .latents import decoded
from .mesh import more_mesh
from .pair_pool import PairBatch, PairPool
from .perceptual import PerceptualLoss, places_apart
from .precision import quickly
from .record import TrainingRecord
from .style_contrast import StyleContrast, joined_statistics
from .style_distance import StyleDistance

LEARNING_RATE = 1e-4
MEANS, EXAMPLES, STYLE, PLACES, PIXELS, MESH = 0.5, 1.0, 0.3, 0.5, 0.5, 30.0  # weights of the losses
KEPT = 10.0  # weight of the latents that shall stay
FEW = 5  # one in so many pictures goes on to a second step, and as many are kept
UNPROMPTED = 0.25  # of the kept ones have the empty prompt
RENEW_STEPS = 2  # new pairs come in every so many steps
NOTE_STEPS, CHECKPOINT_STEPS = 10, 100


class Styling:
    """State of one run that can be stopped and taken up again from its checkpoint. `network`: averaged, as it left its training.

    means, examples: what pictures are told by. empty: token ids [32] of the empty prompt.
    """

    def __init__(self, work: Path, network: Conditioned, means: StyleContrast, examples: StyleContrast, eye: PerceptualLoss, *,
        empty: Tensor, device: torch.device, seed: int) -> None:  # fmt: skip
        self.path, self.work, self.device = work / "styled.pt", work, device
        self.means, self.examples, self.eye, self.empty = means, examples, eye, empty.to(device)
        self.frozen = network.requires_grad_(False).eval()
        self.network = copy.deepcopy(network)
        self.network.unet.requires_grad_(True)
        self.average = copy.deepcopy(network.unet)
        self.distance = StyleDistance(self.eye.channels).to(device)
        self.optimizer = adam(self.network.unet.parameters(), rate=LEARNING_RATE, betas=(0.9, 0.99), decay=0.0, device=device)
        self.generator = torch.Generator(device).manual_seed(seed)
        self.step, self.seconds = 0, 0.0
        self._learn: Captured | None = None
        if self.path.exists():
            state = torch.load(self.path, map_location=device, weights_only=True)
            self.network.unet.load_state_dict(state["unet"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.distance.load_state_dict(state["distance"])
            self.step, self.seconds = state["step"], state["seconds"]
            self.generator.manual_seed(seed + self.step)

    def one_step(self, pairs: PairBatch, directions: Tensor) -> dict[str, Tensor]:
        """One step; the losses. directions [C, 3]: how latents change with colour, for the seed's light."""
        if self._learn is None:
            self._learn = Captured(self._one_step, generator=self.generator)
        texts = self.network.texts(torch.cat([pairs.ids, self.empty[None]]))
        values = self._learn(texts, directions, *(getattr(pairs, field.name) for field in fields(pairs)))
        update_average(self.average, self.network.unet, step=self.step, decay=0.99)
        return values

    def _one_step(self, texts: Tensor, directions: Tensor, *tensors: Tensor) -> dict[str, Tensor]:
        """`texts` [B + 1, 32, width]: the prompts' and the empty one's; `tensors`: those of the pairs, in their order."""
        pairs, few = PairBatch(*tensors), len(texts) // FEW
        random = partial(torch.rand, generator=self.generator, device=self.device)
        noise = torch.randn(pairs.content.shape, generator=self.generator, device=self.device)
        noise = torch.where(wide(pairs.painted), pairs.noise, noise)
        grain = torch.randn(noise.shape, generator=self.generator, device=self.device)
        content = torch.where(wide(pairs.painted), 0.0, pairs.content + JITTER * wide(random(len(noise))) * grain)
        light = wide(~pairs.painted) * flow.seed_light(noise, directions)
        first = self.network.estimate(noise, content, noise.new_ones(len(noise)), texts[:-1])
        # some go on to a second step, as a stream of two steps does, and beside them stand starts that shall stay what they are
        plain = torch.cat([torch.zeros(few, dtype=torch.bool, device=self.device), random(few) < UNPROMPTED])
        s = 0.1 + torch.where(plain, 0.9, 0.7) * random(2 * few)
        text = torch.where(plain[:, None, None], texts[-1:], texts[: 2 * few])
        begun = torch.cat([first[:few].detach(), content[few : 2 * few]])
        x_s = flow.noisy(begun, noise[: 2 * few], s)
        later = self.network.estimate(x_s, content[: 2 * few], s, text)
        with torch.no_grad():
            kept = self.frozen.estimate(x_s[few:], content[few : 2 * few], s[few:], text[few:])
        both = (torch.cat([each, each[:few]]) for each in (light, pairs.targets, pairs.alone))
        values = self._compared(torch.cat([first, later[:few]]), *both)
        values["kept"] = (later[few:] - kept).square().mean()
        self.optimizer.zero_grad(set_to_none=True)
        told = MEANS * values["contrast"] + EXAMPLES * values["example"]
        pictures = STYLE * values["style"] + PLACES * values["places"] + PIXELS * values["pixels"] + MESH * values["mesh"]
        (told + pictures + KEPT * values["kept"]).backward()
        values["slope"] = nn.utils.clip_grad_norm_(self.network.unet.parameters(), 1.0)
        self.optimizer.step()
        return {name: value.detach() for name, value in values.items()}

    def _compared(self, latents: Tensor, light: Tensor, targets: Tensor, alone: Tensor) -> dict[str, Tensor]:
        """How unlike the pictures of `latents`, `light` taken off, are to `targets` uint8 [B, S, S, 3], showing looks `alone` [B]."""
        wanted = signed(targets)
        with quickly(self.device):
            made = decoded(self.network.decoder, latents - light)
            mine = self.eye.features(made)
            with torch.no_grad():
                right = self.eye.features(wanted)
            places = places_apart(mine, right)
            style = self.distance(mine, right)
        statistics = joined_statistics(mine)
        contrast, told = self.means(statistics, alone)
        example, matched = self.examples(statistics, alone)
        found = {"contrast": contrast, "told": told, "example": example, "matched": matched, "style": style, "places": places}
        return found | {"pixels": picture_loss(made, wanted), "mesh": more_mesh(made, wanted)}

    def save(self, seconds: float) -> None:
        """Replace the checkpoint; its `average` counts."""
        state = {"unet": self.network.unet.state_dict(), "average": self.average.state_dict(), "optimizer": self.optimizer.state_dict()}
        state |= {"distance": self.distance.state_dict(), "step": self.step, "seconds": seconds}
        replace_checkpoint(self.path, state)

    def run(self, pool: PairPool, *, batch: int, minutes: float) -> None:
        """Learn until `minutes` in all are used up, `batch` pairs a step."""
        directions = pool.colour_directions()
        with TrainingRecord(self.work / "styling.csv", title="styling", budget_seconds=60 * minutes, spent_seconds=self.seconds) as record:
            while record.fraction < 1.0:
                if self.step % RENEW_STEPS == 0:
                    pool.renew(wait=False)
                share = min(1.0, (self.step + 1) / 30) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * record.fraction)))
                set_rate(self.optimizer, LEARNING_RATE * share)
                values = self.one_step(pool.batch(batch), directions)
                self.step += 1
                record.note_every(NOTE_STEPS, step=self.step, values=values)
                if self.step % CHECKPOINT_STEPS == 0:
                    self.save(record.spent_seconds)
            self.save(record.spent_seconds)
