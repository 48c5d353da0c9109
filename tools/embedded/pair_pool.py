"""Finished pairs and their latents in the training device's memory, renewed while training goes on; batches of them."""

from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor

from .drawing_room import DrawingRoom
from .finishing import Finisher, on_device, signed
from .latents import encoded
from .networks import LATENTS
from .pairs import PROMPTS
from .tokenizer import MAX_TOKENS

ENCODED_AT_ONCE = 64
RARE = 0.3  # how often tags and mixtures are taken up beside named styles and looks, which is what people ask for most


@dataclass(frozen=True)
class PairBatch:
    """B pairs on the device: `contents`, `targets` uint8 [B, S, S, 3]; `content`, `target` their latents float32 [B, C, h, w].

    ids: int64 [B, 32], a prompt each. alone: int64 [B], the number of the one look or style that is asked for, on a photo as it is, or -1.
    painted: bool [B], textures without a photo, whose `content` is 0 and whose start is `noise`.
    """

    contents: Tensor
    targets: Tensor
    content: Tensor
    target: Tensor
    noise: Tensor
    ids: Tensor
    alone: Tensor
    painted: Tensor


class PairPool:
    """Up to `capacity` pairs, filled from a drawing room; the oldest give way."""

    def __init__(
        self,
        room: DrawingRoom,
        finisher: Finisher,
        *,
        capacity: int,
        autoencoder: AutoencoderTiny | None,
        seed: int,
    ) -> None:
        self.room, self.finisher, self.autoencoder = room, finisher, autoencoder
        self.device, side, cells = finisher.device, room.layout.side, room.layout.side // 8
        self.capacity, self.count, self.added = capacity, 0, 0
        self._contents = torch.empty(capacity, side, side, 3, dtype=torch.uint8, device=self.device)
        self._targets = torch.empty_like(self._contents)
        shape = (capacity if autoencoder is not None else 0, LATENTS, cells, cells)
        self._content, self._target, self._noise = (torch.empty(shape, dtype=torch.float16, device=self.device) for _ in range(3))
        self._ids = torch.empty(capacity, PROMPTS, MAX_TOKENS, dtype=torch.int16, device=self.device)
        self._alone = torch.full((capacity,), -1, dtype=torch.int32, device=self.device)
        self._painted = torch.zeros(capacity, dtype=torch.bool, device=self.device)
        self._weights = torch.zeros(capacity, device=self.device)
        self._tags = np.array([concept.kind == "tags" for concept in finisher.concepts])
        self._generator = torch.Generator(self.device).manual_seed(seed)

    @torch.inference_mode()
    def renew(self, *, wait: bool) -> bool:
        """Take in one batch of the room; False if none was ready."""
        pairs = self.room.next(wait=wait)
        if pairs is None:
            return False
        number = len(pairs.recipes)
        places = (torch.arange(number) + self.added) % self.capacity
        rows = on_device(places.numpy(), self.device)
        contents = on_device(pairs.contents, self.device)
        targets = self.finisher(pairs)
        painted = on_device(pairs.recipes[:, 5] >= 0, self.device)
        if self.autoencoder is not None:
            self._content[rows] = torch.where(painted[:, None, None, None], 0.0, self._encoded(contents))
            self._target[rows] = self._encoded(targets)
            self._noise[rows] = on_device(pairs.noise, self.device)
        self._contents[rows], self._targets[rows], self._painted[rows] = contents, targets, painted
        self._ids[rows] = on_device(pairs.ids, self.device)
        only = (pairs.recipes[:, 1:] < 0).all(axis=1) & ~self._tags[pairs.recipes[:, 0]]
        self._alone[rows] = on_device(np.where(only, pairs.recipes[:, 0], -1).astype(np.int32), self.device)
        rare = self._tags[pairs.recipes[:, 0]] | (pairs.recipes[:, 1] >= 0)
        self._weights[rows] = on_device(np.where(rare, RARE, 1.0).astype(np.float32), self.device)
        self.added += number
        self.count = min(self.added, self.capacity)
        return True

    def batch(self, count: int) -> PairBatch:
        """`count` pairs, named styles and looks more often than tags and mixtures."""
        ends = self._weights[: self.count].cumsum(0)
        chosen = ends[-1] * torch.rand(count, device=self.device, generator=self._generator)
        rows = torch.searchsorted(ends, chosen).clamp(max=self.count - 1)
        which = torch.randint(PROMPTS, (count,), device=self.device, generator=self._generator)
        return PairBatch(
            contents=self._contents[rows],
            targets=self._targets[rows],
            content=self._content[rows].float(),
            target=self._target[rows].float(),
            noise=self._noise[rows].float(),
            ids=self._ids[rows, which].long(),
            alone=self._alone[rows].long(),
            painted=self._painted[rows],
        )

    def pictures(self, count: int) -> Tensor:
        """float32 [count, 3, S, S] in [-1, 1]: one photo to four looks."""
        rows = torch.randint(self.count, (count,), device=self.device, generator=self._generator)
        photos = count // 5
        return signed(torch.cat([self._contents[rows[:photos]], self._targets[rows[photos:]]]))

    def colour_directions(self, *, pictures: int = 256) -> Tensor:
        """[C, 3]: how a latent cell changes with its mean colour in [-1, 1], by least squares over some targets."""
        count = min(pictures, self.count)
        targets = signed(self._targets[:count])
        cells = torch.nn.functional.avg_pool2d(targets, 8).permute(0, 2, 3, 1).reshape(-1, 3).double()
        known = torch.cat([cells, torch.ones_like(cells[:, :1])], dim=1)
        latents = self._target[:count].double().permute(0, 2, 3, 1).reshape(-1, LATENTS)
        return torch.linalg.lstsq(known.cpu(), latents.cpu()).solution[:3].T.float().to(self.device)

    def _encoded(self, pictures: Tensor) -> Tensor:
        assert self.autoencoder is not None
        return torch.cat([encoded(self.autoencoder, signed(part)) for part in pictures.split(ENCODED_AT_ONCE)]).half()
