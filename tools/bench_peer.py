"""The peer of the bench: diffusers' own image-to-image pipeline over the same weights."""

from __future__ import annotations

import time
import types
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.models.text_encoder import PromptEmbedding
from engine.models.weights import LoadedModel


class Peer:
    """StableDiffusionImg2ImgPipeline, its SDXL sister, or InstructPix2Pix for image-conditioned models."""

    def __init__(self, loaded: LoadedModel, prompt: PromptEmbedding | None) -> None:
        import diffusers

        diffusers.utils.logging.disable_progress_bar()
        diffusers.utils.logging.set_verbosity_error()
        self._device = loaded.device
        parts: dict[str, Any] = {"unet": loaded.unet, "vae": loaded.vae}
        for i, (tokenizer, encoder) in enumerate(zip(loaded.tokenizers, loaded.text_encoders, strict=True)):
            parts |= {f"tokenizer{'_2' * i}": tokenizer, f"text_encoder{'_2' * i}": encoder}
        for name in ("tokenizer", "text_encoder", *(("tokenizer_2", "text_encoder_2") if loaded.is_sdxl else ())):
            parts.setdefault(name, None)
        if not loaded.is_sdxl:
            parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        kind = _kind(diffusers, loaded)
        self.name = kind.__name__.removeprefix("StableDiffusion").removesuffix("Pipeline")
        self._pipeline = kind(**parts, scheduler=_scheduler(diffusers, loaded))
        self._pipeline.set_progress_bar_config(disable=True)
        self._asked: dict[str, Any] = {"guidance_scale": 1.0, "output_type": "np"}
        if loaded.image_conditioned:
            self._asked["image_guidance_scale"] = 1.0
        else:
            self._asked["strength"] = 1.0
        if prompt is None:
            self._asked["prompt"] = "watercolor painting"
        else:
            self._asked["prompt_embeds"] = prompt.tokens
            if prompt.pooled is not None:
                self._asked["pooled_prompt_embeds"] = prompt.pooled

    @torch.inference_mode()
    def measure(self, pictures: Sequence[NDArray[np.uint8]], *, steps: int, frames: int) -> tuple[float, float]:
        """(frames a second, median milliseconds a frame), bytes in to bytes out; strength 1 so that all steps are run."""
        times = []
        for i in range(frames + 2):
            started = time.perf_counter()
            rgb = np.ascontiguousarray(pictures[i % len(pictures)][None, ..., 2::-1].astype(np.float32) / 255.0)
            images = self._pipeline(image=rgb, num_inference_steps=steps, **self._asked).images
            (images * 255).round().astype(np.uint8)
            times.append(time.perf_counter() - started)
        return 1.0 / float(np.mean(times[2:])), float(np.median(times[2:])) * 1000.0


def _kind(diffusers: Any, loaded: LoadedModel) -> Any:
    if loaded.image_conditioned:
        return diffusers.StableDiffusionInstructPix2PixPipeline
    return diffusers.StableDiffusionXLImg2ImgPipeline if loaded.is_sdxl else diffusers.StableDiffusionImg2ImgPipeline


def _scheduler(diffusers: Any, loaded: LoadedModel) -> Any:
    if loaded.prediction != "flow":
        return diffusers.LCMScheduler.from_config(dict(loaded.scheduler_config))
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler.from_config(dict(loaded.scheduler_config))
    # The pipeline was written for the older schedulers and asks for these two, which flow matching does not need.
    scheduler.scale_model_input = types.MethodType(lambda self, sample, timestep: sample, scheduler)
    scheduler.init_noise_sigma = 1.0
    return scheduler
