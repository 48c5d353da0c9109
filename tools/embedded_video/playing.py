"""A model folder played as the engine plays it: RGB pictures in, RGB pictures out, one at a time."""

import time
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from engine.control.live_values import LiveValues
from engine.frames import Frame, PixelFormat
from engine.models.catalogue import resolve
from engine.models.video_weights import load_video
from engine.pipelines.video_build import assemble

from .motion import Clip
from .pool import pictures_to_signed

STRENGTH = 0.5  # of the catalogue's row


class Player:
    """A stream over a model folder, or a name of the catalogue."""

    def __init__(self, model: str | Path, *, dtype: torch.dtype = torch.float32) -> None:
        self._loaded = load_video(resolve(str(model)), device=torch.device("cpu"), dtype=dtype)
        self._encoder = self._loaded.prompts()

    def __call__(
        self, clip: Clip | None, prompts: str | Iterable[str], *, frames: int = 0, side: int = 128, **values: float | str
    ) -> Clip:
        """Pictures uint8 [T, side, side, 3] of a clip, or `frames` of a dream where there is none; one prompt, or one a frame."""
        count = frames if clip is None else len(clip)
        texts = [prompts] * count if isinstance(prompts, str) else list(prompts)
        live = LiveValues()
        mode = {"mode": "text_to_image"} if clip is None else {}
        usual = {"strength": STRENGTH, "steps": 1, "prompt_chunks": 1, "seed_mode": "random"}
        live.set_many({"width": side, "height": side, **usual, **mode, **values, "prompt": texts[0]})
        live.jump()
        stream = assemble(self._loaded, live.snapshot(0.0), encoder=self._encoder, wait=True)
        made: list[Frame] = []
        started = time.perf_counter()
        for number, text in enumerate(texts):
            live.set_many({"prompt": text})
            live.jump()
            made += stream.step(None if clip is None else framed(clip[number], number), live.snapshot(float(number)))
        made += stream.flush(live.snapshot(float(count)))
        self.seconds = time.perf_counter() - started
        return np.stack([cv2.cvtColor(frame.pixels[..., :3], cv2.COLOR_BGR2RGB) for frame in made])

    def through_codec(self, clip: Clip) -> Clip:
        """A clip through the model's autoencoder alone: what no denoiser can do better."""
        codec = self._loaded.codec()
        latents = codec.encode(pictures_to_signed(clip)[None].to(self._loaded.dtype))
        pictures = codec.decode(latents)[0].float().movedim(1, -1)
        return ((pictures + 1) * 127.5).round().clamp(0, 255).byte().numpy()


def framed(picture: npt.NDArray[np.uint8], number: int) -> Frame:
    """An RGB picture as a frame of a source."""
    pixels = np.dstack([picture[..., ::-1], np.full(picture.shape[:2], 255, np.uint8)])
    return Frame(np.ascontiguousarray(pixels), PixelFormat.BGRX, number / 10, number)
