"""Puts a video stream together: model, device, precision, codec, prompts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection

import numpy as np
import torch

from engine.control.live_values import Snapshot
from engine.frames import Frame, PixelFormat
from engine.gpu.devices import choose_dtype, device_text
from engine.models import compiled_blocks as compiling
from engine.models.linears import are_float8, obstacle, to_float8
from engine.models.model_card import ModelCard, ModelError
from engine.models.prompt_encoder import PromptEncoder
from engine.models.video_denoiser import VideoDenoiser
from engine.models.video_weights import PARTS, LoadedVideoModel, load_video
from engine.pipelines.codec_line import CodecHere, CodecLine
from engine.pipelines.denoising import DenoisingSite, ThisProcess
from engine.pipelines.prompt_mix import PromptMix
from engine.pipelines.rank_team import Team, check_blocks, check_policies, prepare_device
from engine.pipelines.video_entry import ChunkPrompts
from engine.pipelines.video_parts import check
from engine.pipelines.video_stream import VideoStream
from engine.runtimes.runtime import PRECISIONS
from engine.settings import Settings, SettingsError

log = logging.getLogger(__name__)

WARM_UP_CHUNKS = 8


class LoadedVideoStream(VideoStream):
    """A video stream that knows what it runs on."""

    model: str
    device: str
    dtype: str
    runtime: str


def build_video_stream(settings: Settings, values: Snapshot, card: ModelCard, *, live: bool) -> LoadedVideoStream:
    """Load the model and make its stream; SettingsError for what the user can put right."""
    if settings.lora:
        raise SettingsError("LoRAs cannot be merged into a video model yet; leave --lora out")
    device = prepare_device(settings, live=live)
    notes = unused_settings(settings)
    if settings.ranks == 1:
        return _built(settings, values, card, device, notes, None, live=live)
    assert card.video is not None
    notes += check_policies(card.video, settings, card.title)
    team = Team(settings, live=live)
    try:
        return _built(settings, values, card, device, notes, team, live=live)
    except BaseException:
        team.abandon()
        raise


def _built(
    settings: Settings, values: Snapshot, card: ModelCard, device: torch.device, notes: list[str], team: Team | None, *, live: bool
) -> LoadedVideoStream:
    loaded, more = load_model(settings, card, device, video_dtype(settings, device), live=live)
    notes += more
    encoder = loaded.prompts()
    cuda_graph = settings.cuda_graph and device.type == "cuda"
    if team is not None:
        check_blocks(loaded, settings)
        team.meet(device)
    stream = assemble(
        loaded,
        values,
        encoder=encoder,
        wait=not live,
        output_size=settings.output_size,
        cuda_graph=cuda_graph,
        overlap=1 if live and device.type == "cuda" else 0,
        told=lambda: [notes.pop(0) for _ in tuple(notes)] + encoder.take_problems(),
        site=None if team is None else team.site(loaded, cuda_graph=cuda_graph),
        codec=None if team is None else team.codec(),
        close=(lambda: None) if team is None else team.close,
    )
    stream.device = device_text(device) if team is None else f"{device_text(device)}, first of {settings.ranks} ranks"
    compiled = settings.accelerate == "compile"
    if live and (compiled or device.type == "cuda"):
        (log.warning if compiled else log.info)("the first chunks took %.1f s to prepare", warm_up(stream, values))
    return stream


def unused_settings(settings: Settings) -> list[str]:
    """What was asked for by a setting that a video model does not know."""
    if settings.accelerate == "openvino":
        return ["--accelerate openvino does not go with video models yet; torch runs them as they are"]
    return []


def video_dtype(settings: Settings, device: torch.device) -> torch.dtype:
    """The precision asked for; bfloat16 where image models take float16, whose range Wan's transformer leaves."""
    chosen = choose_dtype(settings, device)
    return torch.bfloat16 if settings.dtype == "auto" and chosen == torch.float16 and device.type == "cuda" else chosen


def load_model(
    settings: Settings, card: ModelCard, device: torch.device, dtype: torch.dtype, *, live: bool, parts: Collection[str] = PARTS
) -> tuple[LoadedVideoModel, list[str]]:
    """The model, or those parts of it, with the linears asked for where they can be, and what is to be told about it."""
    loaded, notes = _with_autoencoder(settings, card, device, dtype, live=live, parts=parts)
    if settings.linears == "fp8" and loaded.transformer is not None:
        if why := obstacle(device, dtype):
            notes.append(f"{why}; meanwhile they run in {PRECISIONS[dtype]}")
        else:
            to_float8(loaded.transformer)
    if settings.accelerate == "compile":
        if why := compiling.obstacle(device):
            notes.append(f"{why}; meanwhile torch runs the model as it is")
        else:
            compile_parts(loaded)
    return loaded, notes


def compile_parts(loaded: LoadedVideoModel) -> None:
    """Have torch compile what of a video model it can; the work itself is done at the first call of each set of shapes."""
    if loaded.transformer is not None:
        compiling.compile_blocks(loaded.transformer)
    if loaded.vae is not None:
        compiling.compile_norms(loaded.vae)


def _with_autoencoder(
    settings: Settings, card: ModelCard, device: torch.device, dtype: torch.dtype, *, live: bool, parts: Collection[str]
) -> tuple[LoadedVideoModel, list[str]]:
    """An autoencoder of `auto` is the tiny one for a live run of a large model on a GPU."""
    wanted = settings.autoencoder
    is_large = card.video is not None and bool(card.video.shape)
    if wanted == "auto" and live and is_large and device.type != "cpu":
        try:
            return load_video(card, device=device, dtype=dtype, autoencoder="tiny", parts=parts), []
        except ModelError as error:
            note = f"{error}; meanwhile the model's own autoencoder runs, which is slower"
            return load_video(card, device=device, dtype=dtype, parts=parts), [note]
    return load_video(card, device=device, dtype=dtype, autoencoder="own" if wanted == "auto" else wanted, parts=parts), []


def assemble(
    loaded: LoadedVideoModel,
    values: Snapshot,
    *,
    encoder: PromptEncoder,
    wait: bool,
    output_size: tuple[int, int] | None = None,
    cuda_graph: bool = False,
    overlap: int = 0,
    told: Callable[[], list[str]] = list,
    site: DenoisingSite | None = None,
    codec: CodecLine | None = None,
    close: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
) -> LoadedVideoStream:
    """A stream over a loaded model. wait: prompts are encoded on the spot, not beside the stream. site, codec: where chunks are
    denoised, encoded and decoded, None for this process.

    SettingsError if the model's policies do not go together.
    """
    try:
        check(loaded.policies)
    except ValueError as error:
        raise SettingsError(f"{loaded.card.title} cannot be run as its policies say: {error}") from error
    site = site or ThisProcess(VideoDenoiser(loaded.transformer, cuda_graph=cuda_graph), loaded.policies)
    codec = codec or CodecHere(loaded.codec())
    patch = max(loaded.transformer.config.patch_size[1:])
    stream = LoadedVideoStream(
        site,
        codec,
        ChunkPrompts(PromptMix(encoder, wait=wait), site),
        loaded.policies,
        values,
        multiple=codec.factor * patch,
        dtype=loaded.dtype,
        output_size=output_size,
        overlap=overlap,
        told=told,
        close=close,
        clock=clock,
    )
    stream.model, stream.device, stream.dtype = loaded.card.name, str(loaded.device), str(loaded.dtype).removeprefix("torch.")
    stream.runtime = runtime_of(loaded)
    return stream


def runtime_of(loaded: LoadedVideoModel) -> str:
    """What runs the transformer, and in which precision, for people."""
    how = "torch.compile" if compiling.are_compiled(loaded.transformer) else "torch"
    fp8 = ", fp8 linears" if are_float8(loaded.transformer) else ""
    return f"{how} {PRECISIONS[loaded.dtype]}{fp8}"


def warm_up(stream: VideoStream, values: Snapshot) -> float:
    """Run the first chunks on a grey picture, so that choosing kernels happens before the show; seconds taken."""
    started = time.perf_counter()
    width, height = stream.size
    grey = np.full((height, width, 4), 127, np.uint8)
    index = 0
    for _ in range(WARM_UP_CHUNKS):
        while not stream.step(Frame(grey, PixelFormat.BGRX, 0.0, index), values) and stream.in_flight < 64:
            index += 1
        index += 1
    stream.flush(values)
    stream.reset()
    return time.perf_counter() - started
