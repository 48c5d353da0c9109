"""What is fixed for a run: model, device, precision, output size. Frozen, checked, crosses to the engine as it is."""

from __future__ import annotations

import re
from dataclasses import dataclass

EMBEDDED = "embedded"
PASSTHROUGH = "passthrough"
DTYPES = ("auto", "float32", "bfloat16", "float16")
ACCELERATIONS = ("auto", "none", "openvino", "compile")
PARALLEL = ("layers", "steps")
LINEARS = ("native", "fp8")
MOST_RANKS = 16


class SettingsError(ValueError):
    """A setting that cannot be; the text says which and what is possible."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Fixed for the life of one engine process.

    model: a catalogue name, a hub id, a folder, or a single file. lora: (path or hub id, scale) pairs merged at load.
    device: auto, cpu, cuda, cuda:N, mps. dtype: one of DTYPES. accelerate: one of ACCELERATIONS;
    auto changes a live run on a CPU over to OpenVINO, if it is installed, and back if it is slower than torch there; else none.
    linears: of a video model's transformer, one of LINEARS; fp8 falls back to native, and tells, where the GPU or torchao is not there.
    output_size: (width, height) of finished frames, or None for the size the model works at.
    autoencoder: own (the model's), tiny (TAESD, many times faster), auto (tiny for a live run of a large model if it can be
    had), or a hub id or folder of an AutoencoderTiny or AutoencoderKL.
    ranks: processes that make a video stream together, each with its GPU, from `device` on. parallel: what those that denoise share,
    one of PARALLEL. codec_rank: the last rank encodes and decodes and does nothing else.
    cuda_graph: capture the step on CUDA. threads: torch threads on the CPU, 0 = chosen by the engine.
    """

    model: str = EMBEDDED
    lora: tuple[tuple[str, float], ...] = ()
    device: str = "auto"
    dtype: str = "auto"
    accelerate: str = "auto"
    linears: str = "native"
    autoencoder: str = "auto"
    cuda_graph: bool = True
    threads: int = 0
    output_size: tuple[int, int] | None = None
    ranks: int = 1
    parallel: str = "layers"
    codec_rank: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise SettingsError(f"device {self.device!r} is not one of auto, cpu, cuda, cuda:N, mps")
        choices = (
            ("dtype", self.dtype, DTYPES), ("accelerate", self.accelerate, ACCELERATIONS), ("linears", self.linears, LINEARS),
            ("parallel", self.parallel, PARALLEL),
        )  # fmt: skip
        for name, value, legal in choices:
            if value not in legal:
                raise SettingsError(f"{name} {value!r} is not one of {', '.join(legal)}")
        if not 1 <= self.ranks <= MOST_RANKS:
            raise SettingsError(f"there can be 1 to {MOST_RANKS} ranks, not {self.ranks}")
        if self.codec_rank and self.ranks == 1:
            raise SettingsError("a codec on its own rank needs at least two ranks: --ranks 2 --codec-rank")
        if self.output_size is not None and not all(16 <= side <= 8192 for side in self.output_size):
            raise SettingsError("the output size must lie between 16 and 8192 pixels a side")


def parse_size(text: str, *, least: int = 64, most: int = 2048) -> tuple[int, int]:
    """`WxH` as (width, height); SettingsError says what is wrong with it."""
    match = re.fullmatch(r"\s*(\d+)\s*[xX×]\s*(\d+)\s*", text)
    if match is None:
        raise SettingsError(f"a size is written WIDTHxHEIGHT, for example 512x512, not {text!r}")
    width, height = int(match[1]), int(match[2])
    if not (least <= width <= most and least <= height <= most):
        raise SettingsError(f"the size {width}x{height} must lie between {least} and {most} pixels a side")
    return width, height
