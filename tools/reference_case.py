"""A reference dump of StreamDiffusion's pipeline: its configuration, and its pictures, prompts and noise as a stream's inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.control.live_values import LiveValues, Snapshot
from engine.models.autoencoder import Autoencoder
from engine.models.catalogue import ModelCard
from engine.models.text_encoder import PromptEmbedding
from engine.models.weights import LoadedModel
from engine.pipelines.image_build import curve_of

GLOBAL_SEED = 99
"""What the reference gave torch.manual_seed before the first frame."""
GUIDANCE = {"none": "none", "self": "self", "initialize": "onetime", "full": "full"}
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Case:
    """One dump, read."""

    name: str
    cfg: Mapping[str, Any]
    timesteps: tuple[int, ...]
    prompt_embeds: Tensor
    init_noise: Tensor
    frames: Sequence[Mapping[str, Tensor]]

    @property
    def steps(self) -> int:
        """Denoising steps."""
        return len(self.timesteps)

    @property
    def together(self) -> int:
        """Frames in one call."""
        return int(self.cfg["fb"])

    @property
    def painting(self) -> bool:
        """Whether the stream starts from noise alone."""
        return str(self.cfg["mode"]) != "img2img"

    @property
    def batched(self) -> bool:
        """Whether steps of several frames share a call."""
        return bool(self.cfg["batch"])

    @property
    def guidance(self) -> str:
        """The guidance that is in force: the reference takes it as none up to a scale of 1."""
        return GUIDANCE[self.cfg["cfg_type"]] if self.cfg["guidance_scale"] > 1.0 else "none"

    def incomparable(self) -> str:
        """Why no frame of the dump can be compared; empty if they can."""
        residual = self.guidance in ("self", "onetime")
        if residual and not self.batched:
            return "the reference's residual stays 0 without stream batch, its guidance only scales the prediction"
        if self.guidance == "self" and self.steps == 1:
            return "the reference never resets its residual at one step, which grows from frame to frame"
        if residual and not self.cfg["do_add_noise"] and self.steps > 1:
            return "with noise off the reference's residual still adds noise that the latent does not have"
        if self.guidance == "self" and self.painting:
            return "the reference's residual noise is not the noise that the text-to-image latent was made of"
        return ""

    @property
    def delay(self) -> int:
        """Outputs before the first that was made of a real frame."""
        return self.steps - 1 if self.batched else 0

    @property
    def compared(self) -> str:
        """What the dump holds of a finished frame: the latent x0, or only the decoded picture y."""
        return "y" if self.frames[0]["x0"] is None else "x0"

    def expected(self) -> Iterator[tuple[int, Tensor]]:
        """(index of the input frame, latent or picture [1, C, h, w]) of all outputs that are real."""
        for call, frame in enumerate(self.frames[self.delay :]):
            for place in range(self.together):
                yield call * self.together + place, frame[self.compared][place : place + 1]


class RecordedPrompts:
    """The dump's prompt embeddings: the negative row first if there is one."""

    def __init__(self, case: Case) -> None:
        rows = case.prompt_embeds
        self._positive = PromptEmbedding(text="prompt", tokens=rows[-1:], pooled=None)
        self._negative = PromptEmbedding(text="negative", tokens=rows[:1], pooled=None)

    def positive(self, values: Snapshot) -> PromptEmbedding:
        """The last row."""
        return self._positive

    def negative(self, values: Snapshot) -> PromptEmbedding:
        """The first row."""
        return self._negative


class RecordedNoise:
    """The dump's noise, a frame at a time; what the reference drew from the global generator is drawn again in its order."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._drawn: list[Tensor] = []
        self._generator = torch.Generator("cpu").manual_seed(GLOBAL_SEED)

    def of_frame(self, values: Snapshot, *, count: int, shape: tuple[int, ...]) -> Tensor:
        """Noise [steps, C, h, w] of the `count`-th frame."""
        case = self._case
        call, place = divmod(count, case.together)
        start = case.init_noise[:1]
        if place == 0:
            draws = case.painting + (0 if case.batched else shape[0] - 1)
            self._drawn = [torch.randn((case.together, *shape[1:]), generator=self._generator) for _ in range(draws)]
        drawn = [noise[place : place + 1] for noise in self._drawn]
        if case.painting:
            start = drawn.pop(0)
        later = case.init_noise[:: case.together][1 : shape[0]] if case.batched else torch.cat([start[:0], *drawn])
        return torch.cat((start, later))


def load_case(path: Path) -> Case:
    """Read one dump."""
    dump = torch.load(path, weights_only=True)
    return Case(
        name=path.stem,
        cfg=dump["cfg"],
        timesteps=tuple(int(t) for t in dump["timesteps"]),
        prompt_embeds=dump["prompt_embeds"],
        init_noise=dump["init_noise"],
        frames=dump["frames"],
    )


def load_model(path: Path, case: Case) -> LoadedModel:
    """The dump's network and autoencoder in diffusers' own classes, float32."""
    from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel

    weights = torch.load(path, weights_only=True)
    unet = UNet2DConditionModel(**weights["unet_cfg"])
    unet.load_state_dict(weights["unet"])
    tiny = case.cfg["vae"] == "tiny"
    vae = AutoencoderTiny(**weights["tae_cfg"]) if tiny else AutoencoderKL(**weights["kl_cfg"])
    vae.load_state_dict(weights["tae" if tiny else "kl"])
    return LoadedModel(
        card=ModelCard(name="reference", source=str(path), title="Reference", step_method="consistency"),
        device=CPU,
        dtype=torch.float32,
        unet=unet.eval().requires_grad_(False),
        vae=vae.eval().requires_grad_(False),
        text_encoders=(),
        tokenizers=(),
        scheduler_config=weights["sched"],
        scheduler_class="LCMScheduler",
        pipeline_class="StableDiffusionPipeline",
        prediction="epsilon",
        is_sdxl=False,
        image_conditioned=False,
        zero_negative=False,
        vae_is_tiny=tiny,
        vae_upcast=False,
        guidance_embedding_dim=None,
        merged=(),
    )


def live_values(case: Case) -> LiveValues:
    """The dump's configuration as live values."""
    values = LiveValues()
    size = int(case.cfg.get("size", 64))
    values.set_many(
        {
            "mode": "text_to_image" if case.painting else "image_to_image",
            "step_list": case.timesteps,
            "stream_batch": case.batched,
            "frame_buffer": case.together,
            "guidance": case.guidance,
            "guidance_scale": case.cfg["guidance_scale"],
            "delta": case.cfg["delta"],
            "add_noise": case.cfg["do_add_noise"],
            "step_method": "euler" if case.cfg["mode"] == "turbo" else "consistency",
            "width": size,
            "height": size,
        }
    )
    values.jump()
    return values


class RecordedInputs(Autoencoder):
    """Encodes the dump's own float pictures. A frame's grey level is its index, by which they are found again."""

    def __init__(self, loaded: LoadedModel, case: Case) -> None:
        super().__init__(loaded.vae, dtype=loaded.dtype)
        self._case = case
        self._first = curve_of(loaded)("consistency").at((case.timesteps[0] + 1) / 1000)

    def encode(self, rgb: Tensor) -> Tensor:
        """The clean latents of the frames whose index the pictures carry."""
        return torch.cat([self._clean(round(float(level))) for level in (rgb[:, 0, 0, 0] + 1.0) * 127.5])

    def _clean(self, index: int) -> Tensor:
        call, place = divmod(index, self._case.together)
        frame = self._case.frames[call]
        if self._case.cfg["vae"] == "tiny":
            picture = frame["x"][place : place + 1]
            # The reference takes a picture without negative values as one in [0, 1] and stretches it.
            return super().encode(picture * 2.0 - 1.0 if float(frame["x"].min()) >= 0.0 else picture)
        # The reference samples the KL autoencoder's distribution, which the engine never does: its sample is taken over.
        return (frame["z_in"][place : place + 1] - self._first.b * self._case.init_noise[:1]) / self._first.a
