"""What a bench of video streams says of its model, machine and command beside its rows."""

from __future__ import annotations

import argparse
import platform
import sys
import time

import torch

from engine.gpu.devices import device_text
from engine.models.video_weights import LoadedVideoModel
from tools.roofline import Ceilings


def told_of(ceilings: Ceilings) -> str:
    """Ceilings in words."""
    return f"{ceilings.flops / 1e12:.3g} TFLOP/s, {ceilings.bytes / 1e12:.3g} TB/s ({ceilings.source})"


def facts_of(
    asked: argparse.Namespace, loaded: LoadedVideoModel, size: tuple[int, int], device: torch.device, threads: int
) -> dict[str, object]:
    """Facts by name, in the order in which they are shown. size: width, height."""
    policies = loaded.policies
    return {
        "model": loaded.card.title,
        "policies": f"{asked.policies if asked.random_weights else loaded.card.name}: {policies.cache}, window {policies.window}, "
        f"{policies.sinks} sinks, positions {policies.positions}, noise {policies.noise}",
        "size": f"{size[0]}x{size[1]}",
        "device": device_text(device),
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "linears": asked.linears,
        "compile": asked.compile,
        "torch": torch.__version__,
        "threads": threads,
        "machine": platform.platform(),
        "date": time.strftime("%Y-%m-%d"),
        "command": "python tools/bench.py " + " ".join(sys.argv[1:]),
    }
