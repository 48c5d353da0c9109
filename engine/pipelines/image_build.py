"""Puts an image stream together: model, device, precision, curve, prompts, noise."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable

import numpy as np
import torch

from engine.control.live_values import Snapshot
from engine.diffusion.schedule import Flow, NoiseCurve, VariancePreserving
from engine.frames import Frame, PixelFormat
from engine.gpu.devices import choose_device, choose_dtype, device_text, set_threads
from engine.gpu.host_memory import keep_freed_memory
from engine.gpu.timing import StageTimer
from engine.gpu.transfer import Transfer
from engine.models.autoencoder import Autoencoder
from engine.models.catalogue import ModelError, resolve
from engine.models.folded_autoencoder import frozen_decoder, frozen_encoder
from engine.models.image_denoiser import ImageDenoiser
from engine.models.text_encoder import TextEncoder
from engine.models.weights import LoadedModel, load, with_autoencoder
from engine.pipelines.entry import Entry, Noises, Prompts
from engine.pipelines.image_step import ImageStep
from engine.pipelines.image_stream import ImageStream
from engine.pipelines.noise_source import NoiseSource
from engine.pipelines.prompt_mix import PromptMix
from engine.runtimes.choice import choose_runtime
from engine.runtimes.runtime import PRECISIONS, Runtime, TorchRuntime
from engine.settings import Settings, SettingsError

log = logging.getLogger(__name__)

LATENT_MULTIPLE = 8
LEAST_ALPHA = 1e-6


class LoadedImageStream(ImageStream):
    """An image stream that knows what it runs on."""

    model: str
    device: str
    dtype: str
    networks: Runtime

    @property
    def runtime(self) -> str:
        """What runs the networks at present."""
        return self.networks.name


def build_image_stream(settings: Settings, values: Snapshot, *, live: bool) -> LoadedImageStream:
    """Load the model and make its stream; SettingsError for what the user can put right."""
    device = choose_device(settings)
    dtype = choose_dtype(settings, device)
    if device.type == "cpu":
        set_threads(settings)
        keep_freed_memory()
    if device.type == "cuda":
        torch.cuda.set_device(device)  # graphs and events are made on the current device
        # Live, sizes stay the same from frame to frame: worth looking for the fastest convolution once. Offline, the same
        # picture every time is worth more.
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = live, not live
    loaded, notes = load_model(settings, device, dtype, live=live)
    if settings.linears != "native":
        notes.append(f"--linears {settings.linears} is for video models; this one runs in {PRECISIONS[dtype]}")
    if settings.accelerate == "compile":
        compile_parts(loaded)
    parameters = sum(weights.numel() for weights in loaded.unet.parameters())
    runtime = choose_runtime(settings, device=device, dtype=dtype, parameters=parameters, live=live)
    encoder = TextEncoder(loaded, device=device, dtype=dtype)
    prompts = PromptMix(encoder, wait=not live, zero_negative=loaded.zero_negative)
    stream = assemble(
        loaded,
        values,
        prompts=prompts,
        noises=NoiseSource(device),
        output_size=settings.output_size,
        cuda_graph=settings.cuda_graph and device.type == "cuda",
        overlap=1 if live and device.type == "cuda" else 0,
        runtime=runtime,
        told=lambda: [notes.pop() for _ in tuple(notes)] + encoder.take_problems(),
    )
    stream.device = device_text(device)
    if live and (settings.accelerate == "compile" or device.type == "cuda"):
        seconds = warm_up(stream, values)
        (log.warning if settings.accelerate == "compile" else log.info)("the first frames took %.1f s to prepare", seconds)
    return stream


def load_model(settings: Settings, device: torch.device, dtype: torch.dtype, *, live: bool) -> tuple[LoadedModel, list[str]]:
    """The model, and what is to be told about it.

    An autoencoder of `auto` is the tiny one for a live run, if it can be had: a large model's own takes longer than its UNet.
    """
    loaded = load(resolve(settings.model), device=device, dtype=dtype, lora=settings.lora)
    wanted = settings.autoencoder
    if wanted == "own" or (wanted == "auto" and (not live or loaded.vae_is_tiny or loaded.image_conditioned)):
        return loaded, []
    try:
        return with_autoencoder(loaded, "tiny" if wanted == "auto" else wanted), []
    except ModelError as error:
        if wanted != "auto":
            raise
        return loaded, [f"{error}; meanwhile the model's own runs, which is slower"]


def assemble(
    loaded: LoadedModel,
    values: Snapshot,
    *,
    prompts: Prompts,
    noises: Noises,
    autoencoder: Autoencoder | None = None,
    output_size: tuple[int, int] | None = None,
    cuda_graph: bool = False,
    overlap: int = 0,
    cache_prompt: bool = True,
    runtime: Runtime | None = None,
    told: Callable[[], list[str]] = list,
    clock: Callable[[], float] = time.monotonic,
) -> LoadedImageStream:
    """A stream over a loaded model with the given sources of prompts and noise."""
    device = loaded.device
    runtime = runtime or TorchRuntime(f"torch {PRECISIONS[loaded.dtype]}")
    autoencoder = autoencoder or Autoencoder.of(loaded, runtime=runtime)
    denoiser = ImageDenoiser(loaded, device=device, dtype=loaded.dtype, cache_prompt=cache_prompt, runtime=runtime)
    entry = Entry(
        prompts,
        noises,
        curve_of(loaded),
        step_method=step_method_of(loaded),
        latent_shape=lambda width, height: (
            autoencoder.latent_channels,
            height // autoencoder.factor,
            width // autoencoder.factor,
        ),  # fmt: skip
        multiple=max(LATENT_MULTIPLE, autoencoder.factor),
        dtype=loaded.dtype,
        values=values,
    )
    step = ImageStep(denoiser, autoencoder, timer=StageTimer(device), cuda_graph=cuda_graph)
    stream = LoadedImageStream(
        step, entry, Transfer(device), output_size=output_size, overlap=overlap, told=told, clock=clock
    )
    stream.model, stream.device, stream.dtype = loaded.card.name, str(device), str(loaded.dtype).removeprefix("torch.")
    stream.networks = runtime
    return stream


def step_method_of(loaded: LoadedModel) -> str:
    """What the step method `auto` stands for: the card's word, else Euler for flow models and consistency for the rest."""
    if loaded.card.step_method != "auto":
        return loaded.card.step_method
    return "euler" if loaded.prediction == "flow" else "consistency"


def curve_of(loaded: LoadedModel) -> Callable[[str], NoiseCurve]:
    """From step method to noise curve, by the model's scheduler settings."""
    config = loaded.scheduler_config
    if loaded.prediction == "flow":
        flow = Flow(shift=float(config.get("shift") or 1.0))
        return lambda method: flow
    alphas = alphas_cumprod(dict(config))
    if loaded.prediction == "epsilon":
        # A noise curve that ends in pure noise leaves nothing of the picture to divide by.
        alphas = tuple(max(alpha, LEAST_ALPHA) for alpha in alphas)
    plain, boundary = VariancePreserving(alphas), VariancePreserving(alphas, boundary=True)
    return lambda method: boundary if method == "consistency" else plain


def alphas_cumprod(config: dict[str, object]) -> tuple[float, ...]:
    """The model's noise curve as diffusers reads it from the scheduler settings."""
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    known = {k: v for k, v in config.items() if not k.startswith("_") and k in DDPM_SETTINGS}
    return tuple(DDPMScheduler(**known).alphas_cumprod.tolist())


DDPM_SETTINGS = frozenset(
    ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")
)


def compile_parts(loaded: LoadedModel) -> None:
    """Have torch compile the network and the autoencoder; the work itself is done at the first call of each shape."""
    if loaded.device.type == "cpu" and not any(shutil.which(name) for name in ("g++", "clang++", "cl")):
        raise SettingsError("accelerate compile needs a C++ compiler on a CPU, and none was found; install one or leave it out")
    loaded.vae.encoder, loaded.vae.decoder = frozen_encoder(loaded.vae.encoder), frozen_decoder(loaded.vae.decoder)
    for network in (loaded.unet, loaded.vae.encoder, loaded.vae.decoder):
        network.compile()


def warm_up(stream: ImageStream, values: Snapshot) -> float:
    """Run the first calls on a grey picture, so that compiling and choosing kernels happens before the show; seconds taken."""
    started = time.perf_counter()
    width, height = stream.size
    grey = np.full((height, width, 4), 127, np.uint8)
    for i in range(8):
        stream.step(Frame(grey, PixelFormat.BGRX, 0.0, i), values)
    stream.flush(values)
    stream.reset()
    stream.skipped = 0
    return time.perf_counter() - started
