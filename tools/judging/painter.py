"""Photo and prompt to picture by plain diffusers and transformers classes, in batches; nothing of the engine.

Conventions as in engine/models/embedded/MODEL.md: x_s = (1 - s) x0 + s noise, timestep 1000 s, the network predicts
noise - x0; the photo's latent stays in channels 4 to 7. The same noise serves every picture of a seed, as in a stream.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from embedded.precision import quick_dtype
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from .features import batches
from .pictures import Picture

BATCH = 8
TOKENS = 32


class Painter:
    """The model of one folder. `fast`: networks in what the CPU is quickest in, as the running program; else float32."""

    def __init__(self, folder: Path, *, fast: bool = True) -> None:
        self.unet = UNet2DConditionModel.from_pretrained(folder / "unet").float().eval().requires_grad_(False)
        self.vae = AutoencoderTiny.from_pretrained(folder / "vae").float().eval().requires_grad_(False)
        self.text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").float().eval().requires_grad_(False)
        self.tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        self.dtype = quick_dtype(torch.device("cpu")) if fast else torch.float32
        for part in (self.unet, self.vae):
            part.to(self.dtype).to(memory_format=torch.channels_last)
        self._texts: dict[str, Tensor] = {}

    def text(self, prompt: str) -> Tensor:
        """The prompt's embedding [1, 32, D] float32; made once."""
        if prompt not in self._texts:
            ids = self.tokenizer(prompt, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt").input_ids
            with torch.inference_mode():
                self._texts[prompt] = self.text_encoder(ids).last_hidden_state.float()
        return self._texts[prompt]

    def encoded(self, photos: Picture) -> Tensor:
        """Latents float32 [N, 4, H/8, W/8] of photos uint8 [N, H, W, 3]."""
        with torch.inference_mode():
            parts = [self.vae.encode(signed(part).to(self.dtype)).latents.float() for part in batches(photos, BATCH)]
        return torch.cat(parts)

    def decoded(self, latents: Tensor) -> Picture:
        """Pictures uint8 [N, H, W, 3] of latents [N, 4, h, w]."""
        with torch.inference_mode():
            parts = [to_pictures(self.vae.decode(part.to(self.dtype)).sample) for part in latents.split(BATCH)]
        return np.concatenate(parts)

    def latents(
        self,
        content: Tensor,
        prompts: Sequence[str],
        *,
        strength: float = 1.0,
        steps: int = 1,
        seed: int = 0,
        guidance: float = 1.0,
    ) -> Tensor:
        """Finished latents [N, 4, h, w] of content latents [N, 4, h, w] and a prompt each.

        strength: noise level of the start, above 0 to 1. guidance: scale of classifier-free guidance, 1 = none.
        """
        noise = seeded_noise(tuple(content.shape[1:]), seed)
        sigmas = torch.linspace(strength, 0, steps + 1).tolist()
        done = []
        with torch.inference_mode():
            for part, names in zip(content.split(BATCH), batches(np.array(prompts, dtype=object), BATCH), strict=True):
                x = (1 - strength) * part + strength * noise
                text = torch.cat([self.text(name) for name in names])
                for s, following in zip(sigmas[:-1], sigmas[1:], strict=True):
                    velocity = self._velocity(x, part, s, text)
                    if guidance != 1.0:
                        plain = self._velocity(x, part, s, self.text("").expand(len(part), -1, -1))
                        velocity = torch.lerp(plain, velocity, guidance)
                    x = x + (following - s) * velocity
                done.append(x)
        return torch.cat(done)

    def _velocity(self, x: Tensor, content: Tensor, s: float, text: Tensor) -> Tensor:
        joined = torch.cat([x, content], dim=1).to(self.dtype).contiguous(memory_format=torch.channels_last)
        predicted: Tensor = self.unet(joined, torch.tensor(1000.0 * s), text.to(self.dtype)).sample
        return predicted.float()


def signed(pictures: Picture) -> Tensor:
    """uint8 [N, H, W, 3] as float [N, 3, H, W] in [-1, 1], channels last in memory."""
    tensor = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return tensor.contiguous(memory_format=torch.channels_last)


def to_pictures(tensor: Tensor) -> Picture:
    """Float [N, 3, H, W] in [-1, 1] as uint8 [N, H, W, 3]."""
    scaled = (tensor.float().clamp(-1, 1) + 1) * 127.5
    return np.asarray(scaled.round().byte().permute(0, 2, 3, 1).contiguous().numpy())


def seeded_noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Unit normal noise [1, *shape] of a seed."""
    return torch.randn((1, *shape), generator=torch.Generator().manual_seed(seed))
