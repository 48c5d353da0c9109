"""A reference dump of StreamDiffusionV2's causal Wan and streaming pipeline, run again through the engine's own rollout.

The dump's latents, noise and prompt embeddings are injected; the reference's defects are switched on by the policies of the tests.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.models.video_denoiser import VideoDenoiser
from engine.video.noise_control import MotionAwareNoise, change
from engine.video.rollout import Rollout
from engine.video.schedule import FlowGrid, Levels
from engine.video.schedulers import Chunk, Sequential, StreamBatch
from tests.engine.video.reference_policies import ReferenceRing, ReferenceRollout, ReferenceStreamBatch, StalePositions

STEPS = (700, 500, 400, 200)
"""The published list; N steps are its first N."""
SHIFT = 8.0
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class VideoCase:
    """One dump, read."""

    name: str
    dump: Mapping[str, Any]

    @property
    def batched(self) -> bool:
        """Whether chunks at different steps share a call."""
        return str(self.dump["args"]["mode"]) == "batch"

    @property
    def steps(self) -> int:
        """Denoising steps."""
        return int(self.dump["args"]["steps"])


@dataclass(frozen=True, slots=True)
class Difference:
    """The largest absolute difference of one thing compared."""

    what: str
    largest: float


def load_case(path: Path) -> VideoCase | None:
    """Read a dump; None if it is not of the video stream."""
    dump = torch.load(path, weights_only=True)
    return VideoCase(name=path.stem, dump=dump) if "kv" in dump and "chunks" in dump else None


def load_network(case: VideoCase) -> VideoDenoiser:
    """The dump's transformer in diffusers' own class, float32."""
    from diffusers import WanTransformer3DModel
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    dims = case.dump["dims"]
    model = WanTransformer3DModel(
        num_attention_heads=dims["num_heads"],
        attention_head_dim=dims["dim"] // dims["num_heads"],
        text_dim=dims["text_dim"],
        freq_dim=dims["freq_dim"],
        ffn_dim=dims["ffn_dim"],
        num_layers=dims["num_layers"],
    )
    model.load_state_dict(convert_wan_transformer_to_diffusers(dict(case.dump["state_dict"])))
    return VideoDenoiser(model.eval().requires_grad_(False))


def make_rollout(case: VideoCase, network: VideoDenoiser) -> Rollout:
    """A rollout that behaves as the published one."""
    args, (height, width) = case.dump["args"], case.dump["latents"].shape[-2:]
    policy = ReferenceRing(window=args["kv"], sinks=args["sink"], threshold=args["thr"], steps=case.steps)
    rows = case.steps if case.batched else 1
    return ReferenceRollout(
        network,
        lambda wanted: network.make_cache(height, width, policy=policy, rows=wanted),
        policy=policy,
        positions=StalePositions(limit=args["refresh"], restart=args["kv"] - 1),
        rope=network.rope(height, width),
        rows=rows,
    )


def chunk_noise(case: VideoCase, index: int, clean: Tensor) -> tuple[Tensor, Tensor]:
    """(noise that chunk `index` is mixed with, noise of its later steps [N - 1, F, C, h, w]); chunk 0 is the first two frames.

    Every call draws once for the chunk that enters and once for each step but the last. In a stream batch those steps are of
    different chunks, so a chunk's own draws lie in different calls; the last chunks of a dump have not all of theirs.
    """
    draws, steps = case.dump["draws"], case.steps
    apart = steps + 1 if case.batched and index else 1
    places = [index * steps + 1 + apart * i for i in range(steps - 1)]
    later = [draws[place].reshape(clean.shape[1:]) if place < len(draws) else torch.zeros_like(clean[0]) for place in places]
    return draws[index * steps].reshape(clean.shape), torch.stack(later) if later else clean[:0]


@torch.inference_mode()
def differences(case: VideoCase) -> Iterator[Difference]:
    """Everything the dump holds against what the engine makes of the same input, in the order of the stream."""
    dump, args = case.dump, case.dump["args"]
    network = load_network(case)
    rollout = make_rollout(case, network)
    scheduler = (ReferenceStreamBatch if case.batched else Sequential)(rollout)
    assert isinstance(scheduler, StreamBatch | Sequential)
    prompt, grid = network.prompt(dump["prompt_embeds"]), FlowGrid(SHIFT)
    yield Difference("sigmas", float((grid.nearest(dump["timesteps"]) - dump["sigmas"]).abs().max()))
    fixed = grid.levels(STEPS[: case.steps], CPU)
    asked = torch.tensor(float(args["noise_scale"]), dtype=torch.float64)
    scale, end = asked, 0
    for index in range(len(dump["chunks"]) + 1):
        begin, end = end, end + (2 if index == 0 else 1)
        clean = dump["latents"][:, begin:end]
        told = dump["prepare"] if index == 0 else dump["chunks"][index - 1]
        levels: Levels = fixed
        if index:
            pictures = dump["frames"][:, :, 4 * begin - 4 : 4 * end - 3].transpose(1, 2)
            level = MotionAwareNoise().level(asked, change(pictures).double(), scale)
            scale, levels = level.noise_scale, grid.from_first(fixed, level.timestep)
            yield Difference(f"chunk {index} noise scale", abs(float(scale) - told["noise_scale"]))
            yield Difference(f"chunk {index} timestep", abs(float(level.timestep) - told["current_step"]))
        mixed_with, later = chunk_noise(case, index, clean)
        noisy = (scale * mixed_with + (1.0 - scale) * clean).float()
        yield Difference(f"chunk {index} noisy latent", float((noisy - told["noisy"]).abs().max()))
        position = rollout.positions.advance(clean.shape[1])
        found = scheduler.enter(Chunk(noisy, levels, later, position, prompt, tag=index))
        if index == 0 or told.get("ready", True):
            yield Difference(f"chunk {index} output", _largest(found, told["out"]))
        if index and "evict_idx" in told:
            assert isinstance(rollout.policy, ReferenceRing)
            queues = [[end * dump["tokens_per_frame"] for end in queue] for queue in rollout.policy.queues[0]]
            yield Difference(f"chunk {index} ring", 0.0 if queues == told["evict_idx"] else math.inf)
    for layer, kept in enumerate(dump["kv"]):
        for name, mine in (("k", rollout.cache.keys), ("v", rollout.cache.values)):
            yield Difference(f"layer {layer} final {name}", float((mine[layer].flatten(1, 2) - kept[name]).abs().max()))


def _largest(found: list[Chunk], out: Tensor) -> float:
    """The finished chunk against the last row of the reference's output."""
    if not found:
        return math.inf
    expected = out[-1:].reshape(found[-1].latent.shape)
    return float((found[-1].latent - expected).abs().max())
