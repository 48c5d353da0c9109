"""How fast a stream is, host to host, beside diffusers on the same weights in the same run. This file: images; video is bench_video.py.

Usage: python tools/bench.py image [--model M | --random-weights sd-turbo|sd15|sdxl-turbo] [--size WxH] [--steps 1,2,4]
       [--device D] [--dtype T] [--frames N] [--guidance G] [--cuda-graph on|off|both] [--no-peer] [--json FILE]
       [--accelerate none,openvino,compile]

Frames differ from each other and are handed over as bytes on the host; a frame's time ends when its finished bytes are on the
host. Prints a table and, with --json, writes the figures. Ratios are against the peer, and against the
eager run (`--accelerate none`) of the same steps, in the same run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from engine.pipelines.build import let_waiting_threads_sleep

let_waiting_threads_sleep()  # before torch is loaded

import torch

from engine.control.live_values import LiveValues
from engine.frames import Frame, PixelFormat
from engine.gpu.devices import choose_device, choose_dtype, device_text, set_threads
from engine.gpu.host_memory import keep_freed_memory
from engine.models.catalogue import resolve
from engine.models.text_encoder import TextEncoder
from engine.models.weights import LoadedModel, load
from engine.pipelines.image_build import LoadedImageStream, assemble, compile_parts
from engine.pipelines.noise_source import NoiseSource
from engine.pipelines.passthrough import Passthrough
from engine.pipelines.prompt_mix import PromptMix
from engine.runtimes.choice import choose_runtime
from engine.runtimes.runtime import PRECISIONS
from engine.settings import ACCELERATIONS, DTYPES, Settings, SettingsError, parse_size
from tools import bench_video
from tools.bench_input import PICTURES, either, pictures, whole_numbers
from tools.bench_models import CONFIGS, RandomPrompts, random_model
from tools.bench_peer import Peer
from tools.bench_table import Row, show

MEASURED = tuple(name for name in ACCELERATIONS if name != "auto")
"""`auto` is none of its own: it changes over on the way."""
WARM_UP = 12


def measure(mark: str, stream: LoadedImageStream, values: LiveValues, frames: int, peer_fps: float | None) -> Row:
    """Run warm-up and `frames` frames as fast as they go. mark: what to say of the case beside its runtime."""
    shown = pictures(*stream.size)
    sent: dict[int, float] = {}
    latencies: list[float] = []

    def feed(indices: Iterator[int]) -> None:
        for index in indices:
            sent[index] = time.perf_counter()
            done = stream.step(Frame(shown[index % PICTURES], PixelFormat.BGRX, sent[index], index), values.snapshot(1 / 30))
            now = time.perf_counter()
            latencies.extend((now - sent.pop(frame.index)) * 1000 for frame in done)

    started = time.perf_counter()
    feed(iter(range(WARM_UP)))
    stream.networks.settle()
    warm = time.perf_counter() - started
    feed(iter(range(WARM_UP, 2 * WARM_UP)))  # those in flight waited while the runtime got ready
    latencies.clear()
    started = time.perf_counter()
    feed(iter(range(2 * WARM_UP, 2 * WARM_UP + frames)))
    stream.flush(values.snapshot(0.0))
    seconds = time.perf_counter() - started
    p50, p95, p99 = (float(p) for p in np.percentile(latencies, (50, 95, 99)))
    fps = frames / seconds
    ratio = fps / peer_fps if peer_fps else None
    case = f"phosphene, {stream.runtime}{mark}"
    return Row(case, int(str(values.get("steps"))), fps, p50, p95, p99, stream.stage_ms(), ratio, warm_up_seconds=warm)


def loop_overhead_us(frames: int = 20_000) -> float:
    """Microseconds that one turn costs beside the model: snapshot, step and hand-over of the passthrough stream."""
    stream, values = Passthrough(), LiveValues()
    frame = Frame(np.zeros((64, 64, 4), np.uint8), PixelFormat.BGRX, 0.0, 0)
    started = time.perf_counter()
    for _ in range(frames):
        stream.step(frame, values.snapshot(0.01))
    return (time.perf_counter() - started) / frames * 1e6


def stream_of(
    asked: argparse.Namespace, loaded: LoadedModel, values: LiveValues, settings: Settings, *, graph: bool, cache: bool
) -> LoadedImageStream:
    """A stream over weights already loaded."""
    device = loaded.device
    encoder = None if asked.random_weights else TextEncoder(loaded, device=device, dtype=loaded.dtype)
    prompts = RandomPrompts(loaded) if encoder is None else PromptMix(encoder, wait=True)
    cuda = device.type == "cuda"
    parameters = sum(weights.numel() for weights in loaded.unet.parameters())
    runtime = choose_runtime(settings, device=device, dtype=loaded.dtype, parameters=parameters, live=True)
    return assemble(
        loaded,
        values.snapshot(0.0),
        prompts=prompts,
        noises=NoiseSource(device),
        cuda_graph=graph and cuda,
        overlap=1 if cuda else 0,
        cache_prompt=cache,
        runtime=runtime,
    )


def peer_rows(asked: argparse.Namespace, loaded: LoadedModel, size: tuple[int, int]) -> list[Row]:
    """What diffusers makes of it. Comes first: afterwards the UNet holds the stream's attention, not diffusers' own."""
    peer = Peer(loaded, RandomPrompts(loaded).embedding if asked.random_weights else None)
    rows = []
    for steps in asked.steps:
        fps, p50 = peer.measure(pictures(*size), steps=steps, frames=max(4, asked.frames // 4))
        rows.append(Row(f"diffusers {peer.name}", steps, fps, p50, p50, p50, {}))
    return rows


def model_of(asked: argparse.Namespace, device: torch.device, dtype: torch.dtype) -> LoadedModel:
    """The model asked for, freshly loaded."""
    if asked.random_weights:
        return random_model(asked.random_weights, device=device, dtype=dtype)
    return load(resolve(asked.model), device=device, dtype=dtype)


def our_rows(
    asked: argparse.Namespace, loaded: LoadedModel, settings: Settings, size: tuple[int, int], peer_fps: dict[int, float]
) -> list[Row]:
    """Every case of the stream under one setting of accelerate."""
    rows = []
    graphs = either(asked.cuda_graph) if loaded.device.type == "cuda" else (False,)
    for steps, graph, cache in itertools.product(asked.steps, graphs, either(asked.prompt_cache)):
        values = LiveValues()
        values.set_many({"width": size[0], "height": size[1], "steps": steps})
        values.set_many({"guidance": asked.guidance, "strength": asked.strength})
        values.jump()
        graphed = replace(settings, cuda_graph=graph)
        stream = stream_of(asked, loaded, values, graphed, graph=graph, cache=cache)
        rows.append(measure("" if cache else ", prompt not cached", stream, values, asked.frames, peer_fps.get(steps)))
    return rows


def run(asked: argparse.Namespace, console: Console) -> dict[str, object]:
    """Measure all cases and print them."""
    width, height = parse_size(asked.size)
    settings = Settings(model=asked.model, device=asked.device, dtype=asked.dtype, accelerate="none", threads=asked.threads)
    device = choose_device(settings)
    dtype = choose_dtype(settings, device)
    threads = set_threads(settings)
    if device.type == "cpu":
        keep_freed_memory()  # as an engine does; the peer has it too
    loaded = model_of(asked, device, dtype)
    rows = peer_rows(asked, loaded, (width, height)) if asked.peer else []
    peer_fps = {row.steps: row.fps for row in rows}
    for accelerate in asked.accelerate:
        if accelerate == "compile":  # which changes the modules it is done to
            compile_parts(loaded := model_of(asked, device, dtype))
        rows += our_rows(asked, loaded, replace(settings, accelerate=accelerate), (width, height), peer_fps)
    eager = {row.steps: row.fps for row in rows if row.case == f"phosphene, torch {PRECISIONS[dtype]}"}
    rows = [replace(row, to_eager=row.fps / eager[row.steps]) if row.steps in eager else row for row in rows]
    facts = {
        "model": asked.random_weights and f"random weights, {asked.random_weights}" or asked.model,
        "size": f"{width}x{height}",
        "device": device_text(device),
        "dtype": str(dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "threads": threads,
        "machine": platform.platform(),
        "guidance": asked.guidance,
        "loop_overhead_us": loop_overhead_us(),
        "date": time.strftime("%Y-%m-%d"),
        "command": "python tools/bench.py " + " ".join(sys.argv[1:]),
    }
    show(console, facts, rows)
    return {**facts, "rows": [asdict(row) for row in rows]}


def accelerations(text: str) -> list[str]:
    """`none,openvino` as names; argparse tells which are legal if one is not."""
    names = text.split(",")
    if not set(names) <= set(MEASURED):
        raise argparse.ArgumentTypeError(f"{text!r} is not one or more of {', '.join(MEASURED)}, joined by commas")
    return names


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    families = parser.add_subparsers(dest="family", required=True)
    bench_video.add_to(families)
    image = families.add_parser("image", help="the image stream")
    image.set_defaults(work=run)
    image.add_argument("--model", default="embedded")
    image.add_argument("--random-weights", choices=sorted(CONFIGS))
    image.add_argument("--size", default="512x512")
    image.add_argument("--steps", type=whole_numbers, default=[1, 2, 4])
    image.add_argument("--device", default="auto")
    image.add_argument("--dtype", choices=DTYPES, default="auto")
    image.add_argument("--accelerate", type=accelerations, default=["none"], help=f"one or more of {', '.join(MEASURED)}")
    image.add_argument("--guidance", default="none")
    image.add_argument("--strength", type=float, default=0.5)
    image.add_argument("--threads", type=int, default=0, help="on a CPU; 0 = all processors")
    image.add_argument("--prompt-cache", choices=("on", "off", "both"), default="on")
    image.add_argument("--frames", type=int, default=60)
    image.add_argument("--cuda-graph", choices=("on", "off", "both"), default="both")
    image.add_argument("--no-peer", dest="peer", action="store_false")
    image.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    work: Callable[[argparse.Namespace, Console], dict[str, object]] = asked.work
    try:
        figures = work(asked, Console(width=150))
    except SettingsError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
