"""How fast a video stream is, host to host, beside what its device could do at best and diffusers' own transformer.

Usage: python tools/bench.py video --random-weights wan-1.3b|wan-14b|tiny [--policies ROW] | --model M  [--size WxH] [--steps 1,2,4]
       [--scheduler sequential,stream_batch,clean_rerun] [--codec own,tiny] [--chunks N] [--warm-up N] [--input-fps F]
       [--cuda-graph on|off|both] [--ceilings measured|published] [--no-peer] [--linears native|fp8] [--compile on|off]
       [--device D] [--dtype T] [--threads N] [--json FILE]

Every case runs as fast as it goes, then live at a steady input rate; --json is written anew after each. The peer is diffusers'
WanTransformer3DModel over the same weights without a KV cache: to denoise a chunk it takes the whole window through the network, as its
own pipelines do.
--linears fp8 and --compile on are for our own calls alone: neither the peer nor the roofline reckons with them.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from rich.console import Console

from engine.control.live_values import LiveValues
from engine.gpu.devices import choose_device, device_text, set_threads
from engine.gpu.host_memory import keep_freed_memory
from engine.models import compiled_blocks
from engine.models.catalogue import ModelCard, resolve
from engine.models.linears import obstacle, to_float8
from engine.models.prompt_encoder import PromptEncoder
from engine.models.video_weights import LoadedVideoModel, load_video
from engine.pipelines.video_build import assemble, compile_parts, video_dtype
from engine.pipelines.video_parts import cache_policy, largest_chunk, runs_with
from engine.settings import DTYPES, LINEARS, Settings, SettingsError, parse_size
from tools.bench_input import either, whole_numbers
from tools.bench_video_facts import facts_of, told_of
from tools.bench_video_models import CODECS, RANDOM_SHAPES, RandomTexts, random_video_model, shape_of_model, with_random_codec
from tools.bench_video_runs import Clip, as_fast_as_it_goes, first_picture_ms, live, peer_call_ms
from tools.bench_video_table import VideoRow, published_fps, show, with_shares
from tools.roofline import Ceilings, codec_work, denoiser_work, measured, published, tokens_of

SCHEDULERS = ("sequential", "stream_batch", "clean_rerun")


@dataclass(frozen=True, slots=True)
class Case:
    """What is varied."""

    codec: str
    scheduler: str
    steps: int
    graph: bool


def measure(case: Case, loaded: LoadedVideoModel, texts: PromptEncoder, asked: argparse.Namespace, size: tuple[int, int]) -> VideoRow:
    """One case, without what stands beside it."""
    on_gpu = loaded.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(loaded.device)
    values = LiveValues()
    values.set_many({"width": size[0], "height": size[1], "steps": case.steps, "step_scheduler": case.scheduler, "strength": 0.8})
    values.jump()
    stream = assemble(loaded, values.snapshot(0.0), encoder=texts, wait=True, cuda_graph=case.graph, overlap=1 if on_gpu else 0)
    clip = Clip(size)
    chunk = largest_chunk(loaded.policies, 0) * loaded.codec().pictures_per_latent
    as_fast_as_it_goes(stream, values, clip, asked.warm_up * chunk)
    fps, stages = as_fast_as_it_goes(stream, values, clip, asked.chunks * chunk)
    first_ms = first_picture_ms(stream, values, clip)
    paced = live(stream, values, clip, asked.chunks * chunk, asked.input_fps)
    for problem in stream.problems():
        raise SettingsError(f"the figures would mean nothing: {problem}")
    held = torch.cuda.max_memory_allocated(loaded.device) if on_gpu else psutil.Process().memory_info().rss
    rows = case.steps if case.scheduler == "stream_batch" else 1
    calls = 1 if rows > 1 else case.steps + (case.scheduler == "clean_rerun")
    return VideoRow(
        **asdict(case), rows=rows, calls=calls, fps=fps, call_ms=stages["denoise"] / calls, encode_ms=stages["encode"],
        decode_ms=stages["decode"], first_ms=first_ms, paced=paced, memory_gb=held / 1e9, least_call_ms=0.0, least_encode_ms=0.0,
        least_decode_ms=0.0, least_fps=0.0,
    )  # fmt: skip


def beside_roofline(row: VideoRow, loaded: LoadedVideoModel, size: tuple[int, int], ceilings: Ceilings) -> VideoRow:
    """The row with the least times that the device could need for the same work, one stage after the other."""
    frames, codec = largest_chunk(loaded.policies, 0), loaded.codec()
    shape = shape_of_model(loaded.transformer)
    tokens = tokens_of(size, pixels=codec.factor * loaded.transformer.config.patch_size[1])
    call = denoiser_work(
        shape, tokens=tokens, frames=frames, window=cache_policy(loaded.policies).slots, rows=row.rows, itemsize=loaded.dtype.itemsize
    ).seconds(ceilings)
    work = codec_work(loaded, size, frames=frames)
    encode, decode = work.encode.seconds(ceilings), work.decode.seconds(ceilings)
    least_fps = frames * codec.pictures_per_latent / (encode + row.calls * call + decode)
    name = loaded.card.video.shape if loaded.card.video is not None else ""
    told = replace(
        row, least_call_ms=call * 1000.0, least_encode_ms=encode * 1000.0, least_decode_ms=decode * 1000.0, least_fps=least_fps,
        published_h100_fps=published_fps(name, size, row.steps),
    )  # fmt: skip
    return replace(told, shares=with_shares(told))


def cases_of(asked: argparse.Namespace, *, on_gpu: bool) -> Iterator[Case]:
    """Codec by codec. One step alone is no batch."""
    graphs = either(asked.cuda_graph) if on_gpu else (False,)
    for codec, scheduler, steps, graph in itertools.product(asked.codec, asked.scheduler, asked.steps, graphs):
        if steps > 1 or scheduler != "stream_batch" or "sequential" not in asked.scheduler:
            yield Case(codec, scheduler, steps, graph)


class Models:
    """The model asked for, with one codec after the other."""

    def __init__(self, asked: argparse.Namespace, device: torch.device, dtype: torch.dtype) -> None:
        self._asked, self._device, self._dtype = asked, device, dtype
        self._card: ModelCard | None = None if asked.random_weights else resolve(asked.model)
        self._known: tuple[str, LoadedVideoModel] | None = None

    def with_codec(self, codec: str) -> LoadedVideoModel:
        """The transformer stays where it can."""
        name = self._asked.random_weights
        if self._known is None or self._known[0] != codec:
            if self._card is not None:
                loaded = load_video(self._card, device=self._device, dtype=self._dtype, autoencoder=codec)
            elif self._known is not None:
                loaded = with_random_codec(self._known[1], name, codec)
            else:
                loaded = random_video_model(name, self._asked.policies, codec=codec, device=self._device, dtype=self._dtype)
            self._known = (codec, loaded)
        return self._known[1]


def check(asked: argparse.Namespace, loaded: LoadedVideoModel) -> None:
    """SettingsError for what the model cannot be asked for."""
    most = len(loaded.policies.timesteps)
    if not all(1 <= steps <= most for steps in asked.steps):
        raise SettingsError(f"{loaded.card.title} takes 1 to {most} steps as it is run here")
    for scheduler in asked.scheduler:
        if not runs_with(loaded.policies, scheduler):
            raise SettingsError(f"the cache of {loaded.card.title} does not go with the step scheduler {scheduler}")


def run(asked: argparse.Namespace, console: Console) -> dict[str, object]:
    """Measure all cases and print them."""
    settings = Settings(device=asked.device, dtype=asked.dtype, threads=asked.threads)
    device = choose_device(settings)
    dtype = video_dtype(settings, device)
    threads = set_threads(settings)
    if device.type == "cpu":
        keep_freed_memory()  # as an engine does
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # as in a live run
    if asked.linears == "fp8" and (why := obstacle(device, dtype)):
        raise SettingsError(why)
    if asked.compile == "on" and (why := compiled_blocks.obstacle(device)):
        raise SettingsError(why)
    models = Models(asked, device, dtype)
    loaded = models.with_codec(asked.codec[0])
    check(asked, loaded)
    pixels = loaded.codec().factor * loaded.transformer.config.patch_size[1]
    width, height = (side // pixels * pixels for side in parse_size(asked.size))
    texts = RandomTexts(loaded) if asked.random_weights else loaded.prompts()
    sheet = published(device_text(device))
    if asked.ceilings == "published" and sheet is None:
        raise SettingsError(f"there is no data sheet of {device_text(device)} here; take --ceilings measured")
    ceilings = sheet if asked.ceilings == "published" and sheet is not None else measured(device, dtype)
    peer = peer_call_ms(loaded, (width, height), texts) if asked.peer else None
    told = {"ceilings": told_of(ceilings), "data_sheet": sheet and told_of(sheet)}
    facts = facts_of(asked, loaded, (width, height), device, threads) | told
    rows: list[VideoRow] = []
    for case in cases_of(asked, on_gpu=device.type == "cuda"):
        loaded = models.with_codec(case.codec)
        if asked.linears == "fp8":
            to_float8(loaded.transformer)  # after the peer
        if asked.compile == "on":
            compile_parts(loaded)
        row = replace(measure(case, loaded, texts, asked, (width, height)), peer_call_ms=peer)
        rows.append(beside_roofline(row, loaded, (width, height), ceilings))
        keep(asked.json, figures_of(facts, rows))
        gc.collect()  # the stream and its graphs
    show(console, facts, rows)
    return figures_of(facts, rows)


def figures_of(facts: Mapping[str, object], rows: Sequence[VideoRow]) -> dict[str, object]:
    """What the file of figures holds."""
    return {**facts, "rows": [asdict(row) for row in rows]}


def keep(path: Path | None, figures: Mapping[str, object]) -> None:
    """Write the figures so far, so that a run that is cut off keeps its rows; a reader never finds half a file."""
    if path is None:
        return
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    part.replace(path)


def names_of(legal: Sequence[str]) -> Callable[[str], list[str]]:
    """`own,tiny` as names; argparse tells which are legal if one is not."""

    def read(text: str) -> list[str]:
        names = text.split(",")
        if not set(names) <= set(legal):
            raise argparse.ArgumentTypeError(f"{text!r} is not one or more of {', '.join(legal)}, joined by commas")
        return names

    return read


def add_to(families: Any) -> None:
    """The command line of `bench.py video`."""
    video = families.add_parser("video", help="the video stream")
    video.set_defaults(work=run)
    which = video.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", help="as phosphene run takes it")
    which.add_argument("--random-weights", choices=sorted(RANDOM_SHAPES))
    video.add_argument("--policies", default="streamdiffusion-v2", help="row of the catalogue that says how random weights are run")
    video.add_argument("--size", default="480x832", help="WIDTHxHEIGHT; which side is the longer makes no difference")
    video.add_argument("--steps", type=whole_numbers, default=[1, 2, 4])
    video.add_argument("--scheduler", type=names_of(SCHEDULERS), default=["sequential"])
    video.add_argument("--codec", type=names_of(CODECS), default=["own"], help="own: Wan's autoencoder; tiny: TAEHV")
    video.add_argument("--chunks", type=int, default=24, help="measured in each run of a case")
    video.add_argument("--warm-up", type=int, default=10, help="chunks before")
    video.add_argument("--input-fps", type=float, default=30.0)
    video.add_argument("--cuda-graph", choices=("on", "off", "both"), default="on")
    video.add_argument("--ceilings", choices=("measured", "published"), default="measured")
    video.add_argument("--device", default="auto")
    video.add_argument("--dtype", choices=DTYPES, default="auto")
    video.add_argument("--linears", choices=LINEARS, default="native")
    video.add_argument("--compile", choices=("on", "off"), default="off", help="as run --accelerate compile")
    video.add_argument("--threads", type=int, default=0, help="on a CPU; 0 = all processors")
    video.add_argument("--no-peer", dest="peer", action="store_false")
    video.add_argument("--json", type=Path)
