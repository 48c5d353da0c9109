"""One whole step of an image stream as a function of tensors: pixels in, encode, noise, denoise, decode, pixels out.

Everything it branches on stands in a `StepKey`, so the same key can run as one captured CUDA graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.diffusion.prediction import Prediction
from engine.diffusion.stream_batch import COEFFICIENTS, Advanced, Layout, advance, negative_first
from engine.gpu.graphs import GraphedCalls, Tensors
from engine.gpu.timing import StageTimer
from engine.images.blend import feedback, mix
from engine.images.pixel_formats import to_bgra
from engine.images.resize import fit
from engine.models.autoencoder import Autoencoder
from engine.models.image_denoiser import Conditioning, ImageDenoiser

MIX, FEEDBACK = len(COEFFICIENTS), len(COEFFICIENTS) + 1
"""Rows of the coefficient table after those of the denoising step."""


@dataclass(frozen=True, slots=True)
class StepKey:
    """What a step branches on.

    entering: rows, the first ones, that enter with this call; painting: they enter without a picture. size, output_size:
    (width, height) at the model and of finished pictures; fit: how the one becomes the other. finishing: rows whose picture
    comes out. mixing, feeding: dry/wet below 1, feedback above 0. steadying: somebody works on the pictures before they become
    bytes. opaque: no finishing row has an alpha channel. frame_groups: rows that attend to each other, or None.
    """

    layout: Layout
    entering: int
    painting: bool
    size: tuple[int, int]
    output_size: tuple[int, int]
    fit: str
    finishing: tuple[int, ...]
    mixing: bool
    feeding: bool
    steadying: bool
    opaque: bool
    frame_groups: tuple[int, ...] | None


class ImageStep:
    """Runs steps for one model. Inputs and outputs are tensors by name; all latents are float32.

    Inputs: `coefficients` (those of the rows, then a row of `mix` and one of `feedback`), `next_noise` [R, C, h, w] for every
    row; `x`, `reference` (and `image`, with an image-conditioned model) of the rows already in flight; `noise` and, unless
    painting, `rgb` [m, 3, H, W] of the entering rows; `dry` and `alpha` of the finishing rows and `last` [1, 3, H, W] as the key
    says. Outputs: `x_next`, `reference`, `x0` of every row; `image` of the entering rows; of the finishing rows `bytes` uint8
    [F, H, W, 4] or, when steadying, `rgb` [F, 3, H, W] for `shown`, `sound` uint8 [F] (0: not all numbers are finite) and `wet`
    [1, 3, H, W] of the newest.
    """

    def __init__(self, denoiser: ImageDenoiser, autoencoder: Autoencoder, *, timer: StageTimer, cuda_graph: bool) -> None:
        self.denoiser = denoiser
        self.autoencoder = autoencoder
        self.timer = timer
        self._graphs = GraphedCalls(enabled=cuda_graph)

    @property
    def prediction(self) -> Prediction:
        """What the network predicts."""
        return self.denoiser.prediction

    def __call__(self, key: StepKey, inputs: Tensors, conditioning: Conditioning) -> dict[str, Tensor]:
        """One step. Nothing in here waits for the device."""

        def run(tensors: Tensors, constants: Sequence[Tensor]) -> dict[str, Tensor]:
            return self._run(key, tensors, conditioning.with_tensors(constants))

        if not self._graphs.enabled:
            return run(inputs, conditioning.tensors())
        with self.timer.stage("step"):  # the stages inside a graph cannot be timed one by one
            return self._graphs(key, run, inputs, conditioning.tensors())

    def _run(self, key: StepKey, inputs: Tensors, conditioning: Conditioning) -> dict[str, Tensor]:
        out: dict[str, Tensor] = {}
        with self.timer.stage("encode"):
            x, reference, image = self._rows(key, inputs, out)
        with self.timer.stage("denoise"):
            step = self._denoise(key, inputs, conditioning, x, reference, image)
        out |= {"x0": step.x0, "x_next": step.x_next, "reference": step.reference}
        if key.finishing:
            with self.timer.stage("decode"):
                self._finish(key, inputs, step.x0, out)
        return out

    def _rows(self, key: StepKey, inputs: Tensors, out: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Latents, references and image conditioning of all rows, those that enter first."""
        parts: dict[str, list[Tensor]] = {"x": [], "reference": [], "image": []}
        if key.entering:
            clean = None if key.painting else self._encode(key, inputs)
            a, b = (inputs["coefficients"][i, : key.entering].view(-1, 1, 1, 1) for i in (1, 2))
            # Without a picture the stream starts from the noise itself: unit variance, whatever the first timestep.
            parts["x"].append(inputs["noise"] if clean is None else a * clean + b * inputs["noise"])
            parts["reference"].append(torch.zeros_like(inputs["noise"]) if clean is None else clean)
            if self.denoiser.image_conditioned:
                out["image"] = torch.zeros_like(inputs["noise"]) if clean is None else self.autoencoder.unscaled(clean)
                parts["image"].append(out["image"])
        for name, found in parts.items():
            if name in inputs:
                found.append(inputs[name])
        joined = [torch.cat(found) if found else None for found in parts.values()]
        assert joined[0] is not None and joined[1] is not None
        return joined[0], joined[1], joined[2]

    def _encode(self, key: StepKey, inputs: Tensors) -> Tensor:
        rgb = inputs["rgb"]
        if key.feeding:
            rgb = feedback(rgb, inputs["last"], inputs["coefficients"][FEEDBACK, 0])
        return self.autoencoder.encode(rgb).float()

    def _denoise(
        self,
        key: StepKey,
        inputs: Tensors,
        conditioning: Conditioning,
        x: Tensor,
        reference: Tensor,
        image: Tensor | None,
    ) -> Advanced:
        image_rows = None if image is None else negative_first(image, key.layout)

        def network(latents: Tensor, timesteps: Tensor) -> Tensor:
            return self.denoiser(latents, timesteps, conditioning, image_latents=image_rows, frame_groups=key.frame_groups)

        return advance(
            x,
            reference,
            inputs["next_noise"],
            inputs["coefficients"][:MIX],
            layout=key.layout,
            prediction=self.prediction,
            network=network,
        )

    def _finish(self, key: StepKey, inputs: Tensors, x0: Tensor, out: dict[str, Tensor]) -> None:
        finished = torch.cat([x0[i : i + 1] for i in key.finishing])
        rgb = self.autoencoder.decode(finished)
        out["sound"] = (torch.isfinite(finished).flatten(1).all(1) & torch.isfinite(rgb).flatten(1).all(1)).to(torch.uint8)
        out["wet"] = rgb[:1]
        if key.steadying:
            out["rgb"] = rgb
        else:
            out["bytes"] = self.shown(key, inputs, rgb)

    def shown(self, key: StepKey, inputs: Tensors, rgb: Tensor) -> Tensor:
        """Bytes [F, H, W, 4] of finished pictures [F, 3, H, W]: dry/wet, alpha, the size that goes out."""
        if key.mixing:
            rgb = mix(inputs["dry"], rgb, inputs["coefficients"][MIX, 0])
        width, height = key.output_size
        alpha = None if key.opaque else fit(inputs["alpha"], width, height, key.fit, bars=1.0)
        return to_bgra(fit(rgb, width, height, key.fit), alpha)
