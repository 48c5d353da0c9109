"""Fixtures for streams: tiny random models, frames that move, and one frame denoised alone as the measure of all else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.control.live_values import LiveValues
from engine.frames import Frame, PixelFormat
from engine.models.catalogue import resolve
from engine.models.text_encoder import TextEncoder
from engine.models.weights import LoadedModel, load
from engine.pipelines.image_build import LoadedImageStream, assemble
from engine.pipelines.noise_source import NoiseSource
from engine.pipelines.prompt_mix import PromptMix
from engine.runtimes.runtime import Runtime

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def loaded(tiny_model: Callable[[str], Path]) -> Callable[[str], LoadedModel]:
    """A tiny model of a kind, float32 on the CPU."""
    known: dict[str, LoadedModel] = {}

    def of_kind(kind: str) -> LoadedModel:
        if kind not in known:
            known[kind] = load(resolve(str(tiny_model(kind))), device=CPU, dtype=torch.float32)
        return known[kind]

    return of_kind


@pytest.fixture
def make_stream(loaded: Callable[[str], LoadedModel]) -> Callable[..., tuple[LoadedImageStream, LiveValues]]:
    """A stream of a kind at 64x64 and its values, set as asked, without fades and unsteadied."""

    def make(kind: str = "sd15", overlap: int = 0, output_size: tuple[int, int] | None = None,
        runtime: Runtime | None = None, **asked: object,
    ):  # type: ignore[no-untyped-def]
        values = LiveValues()
        values.set_many({"width": 64, "height": 64, "prompt": "a cat", "prompt_fade": 0, "strength": 0.7, "steadiness": 0, **asked})
        values.jump()
        model = loaded(kind)
        encoder = TextEncoder(model, device=CPU, dtype=torch.float32)
        stream = assemble(
            model,
            values.snapshot(0.0),
            prompts=PromptMix(encoder, wait=True, zero_negative=model.zero_negative),
            noises=NoiseSource(CPU),
            overlap=overlap,
            output_size=output_size,
            runtime=runtime,
            clock=lambda: 123.0,
        )
        return stream, values

    return make


@pytest.fixture(scope="session")
def moving() -> Callable[[int], Frame]:
    """Frame i of a moving pattern, 64x64, captured at i / 30 s."""

    def frame(index: int, *, width: int = 64, height: int = 64) -> Frame:
        y, x = np.mgrid[:height, :width]
        pixels = np.stack(
            [
                127 + 100 * np.sin((x + 5 * index) / 9.0),
                127 + 100 * np.cos((y - 3 * index) / 7.0),
                127 + 100 * np.sin((x + y + 4 * index) / 11.0),
                np.full_like(x, 255),
            ],
            axis=-1,
        ).astype(np.uint8)
        return Frame(np.ascontiguousarray(pixels), PixelFormat.BGRX, index / 30.0, index)

    return frame
