"""The runs of which a bench of video streams consists: as fast as it goes, from a fresh start, live, and diffusers' own forward."""

from __future__ import annotations

import itertools
import time

import numpy as np
import torch

from engine.control.live_values import LiveValues
from engine.frames import Frame, PixelFormat
from engine.models.prompt_encoder import PromptEncoder
from engine.models.video_weights import LoadedVideoModel
from engine.pipelines.video_build import LoadedVideoStream
from tools.bench_input import PICTURES, pictures
from tools.bench_video_table import Paced

PEER_CALLS = 5


class Clip:
    """Frames one after the other, without an end."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._shown = pictures(*size)
        self._next = itertools.count()

    def frame(self, captured_at: float) -> Frame:
        """The next."""
        index = next(self._next)
        return Frame(self._shown[index % PICTURES], PixelFormat.BGRX, captured_at, index)


def as_fast_as_it_goes(stream: LoadedVideoStream, values: LiveValues, clip: Clip, frames: int) -> tuple[float, dict[str, float]]:
    """(frames a second, median milliseconds of a chunk's stages) over `frames` frames, the last of them on the host."""
    stages: list[dict[str, float]] = []
    came, started = 0, time.perf_counter()
    for _ in range(frames):
        before = came
        came += len(stream.step(clip.frame(time.monotonic()), values.snapshot(0.0)))
        if came > before:
            stages.append(stream.newest_stage_ms())  # not the running means, which the slow first calls are in
    came += len(stream.flush(values.snapshot(0.0)))
    fps = came / (time.perf_counter() - started)
    return fps, {name: float(np.median([times[name] for times in stages])) for name in ("encode", "denoise", "decode")}


def first_picture_ms(stream: LoadedVideoStream, values: LiveValues, clip: Clip) -> float:
    """From a fresh start to the first picture on the host, with all its frames at hand: what the device takes, without the waiting
    for frames to be captured."""
    stream.reset()
    started = time.perf_counter()
    done: list[Frame] = []
    while not done:
        done = stream.arrived() if stream.arriving else stream.step(clip.frame(time.monotonic()), values.snapshot(0.0))
    return (time.perf_counter() - started) * 1000.0


def live(stream: LoadedVideoStream, values: LiveValues, clip: Clip, frames: int, input_fps: float) -> Paced:
    """Frames captured at a steady rate; whoever is late takes the newest, as a live run does."""
    stream.reset()
    skipped_before, missed = stream.skipped, 0
    started, number = time.monotonic(), 0
    while number < frames:
        due = started + number / input_fps
        while time.monotonic() < due:
            stream.arrived()
            time.sleep(min(0.001, max(0.0, due - time.monotonic())))
        newest = min(frames - 1, int((time.monotonic() - started) * input_fps))
        missed, number = missed + newest - number, newest
        stream.step(clip.frame(started + number / input_fps), values.snapshot(0.0))
        number += 1
    told = stream.punctuality()
    stream.flush(values.snapshot(0.0))
    dropped = missed + stream.skipped - skipped_before
    return Paced(input_fps, told.first_frame, told.latency_p50, told.latency_p95, told.jitter, dropped, frames)


@torch.inference_mode()
def peer_call_ms(loaded: LoadedVideoModel, size: tuple[int, int], texts: PromptEncoder) -> float:
    """Median of diffusers' own forward over the window. Comes first: afterwards the transformer holds the stream's attention."""
    width, height = size
    config, window = loaded.transformer.config, loaded.policies.window
    factor = loaded.codec().factor
    x = torch.randn((1, config.in_channels, window, height // factor, width // factor), device=loaded.device).to(loaded.dtype)
    told = torch.full((1,), 700.0, device=loaded.device)
    tokens = texts.encode("peer").tokens
    times = []
    for _ in range(PEER_CALLS + 1):
        started = time.perf_counter()
        loaded.transformer(hidden_states=x, timestep=told, encoder_hidden_states=tokens, return_dict=False)
        _synchronise(loaded.device)
        times.append((time.perf_counter() - started) * 1000.0)
    return float(np.median(times[1:]))


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
