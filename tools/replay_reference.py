"""Replay reference dumps of StreamDiffusion's pipeline and of StreamDiffusionV2's through the engine and compare every latent.

Usage: python tools/replay_reference.py DUMP.pt... [--weights weights.pt]

The dump's configuration, noise and prompt embeddings are injected; weights come from the `weights.pt` beside an image dump and
from a video dump itself. Prints, per dump and frame or chunk, the largest absolute difference, names frames that cannot be
compared and why, exits 1 above 1e-4.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.frames import Frame, PixelFormat
from engine.models.weights import LoadedModel
from engine.pipelines.image_build import assemble
from tools import reference_video
from tools.reference_case import Case, RecordedInputs, RecordedNoise, RecordedPrompts, live_values, load_case, load_model

TOLERANCE = 1e-4


@torch.inference_mode()
def replay(case: Case, loaded: LoadedModel) -> dict[int, Tensor]:
    """The engine's finished latents by index of the input frame."""
    values = live_values(case)
    stream = assemble(
        loaded,
        values.snapshot(0.0),
        prompts=RecordedPrompts(case),
        noises=RecordedNoise(case),
        autoencoder=RecordedInputs(loaded, case),
    )
    found: dict[int, Tensor] = {}
    stream.watch_latent = found.__setitem__
    side = int(case.cfg.get("size", 64))
    for index in range(len(case.frames) * case.together):
        pixels = np.full((side, side, 4), index, np.uint8)
        stream.step(Frame(pixels, PixelFormat.BGRX, float(index), index), values.snapshot(0.0))
    stream.flush(values.snapshot(0.0))
    return found


def compare(case: Case, loaded: LoadedModel) -> float:
    """Print a line a frame; the largest difference of the frames that can be compared (infinite if one is missing)."""
    reason = case.incomparable()
    if reason:
        print(f"{case.name}: not comparable: {reason}")
        return 0.0
    for call in range(case.delay):
        print(f"{case.name}: output {call} not comparable: the reference's slots still hold zero latents")
    found = replay(case, loaded)
    if case.compared == "y":
        with torch.inference_mode():
            found = {index: loaded.vae.decode(x0, return_dict=False)[0] for index, x0 in found.items()}
    worst = 0.0
    for index, expected in case.expected():
        difference = float((found[index] - expected).abs().max()) if index in found else float("inf")
        print(f"{case.name}: frame {index}: max |{case.compared} - reference| = {difference:.2e}")
        worst = max(worst, difference)
    return worst


def compare_video(case: reference_video.VideoCase) -> float:
    """Print a line for everything compared; the largest difference."""
    worst = 0.0
    for found in reference_video.differences(case):
        print(f"{case.name}: {found.what}: max |engine - reference| = {found.largest:.2e}")
        worst = max(worst, found.largest)
    return worst


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0 if all agree, 1 if not, 2 if a file is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dumps", nargs="+", type=Path)
    parser.add_argument("--weights", type=Path, help="weights.pt; the one beside each dump if not given")
    asked = parser.parse_args(arguments)
    failed = []
    for path in asked.dumps:
        weights = asked.weights or path.with_name("weights.pt")
        video = reference_video.load_case(path) if path.is_file() else None
        missing = [str(file) for file in (path, weights) if not file.is_file() and (file is path or video is None)]
        if missing:
            print(f"replay_reference: there is no file {missing[0]}", file=sys.stderr)
            return 2
        worst = compare_video(video) if video else compare(case := load_case(path), load_model(weights, case))
        if not worst <= TOLERANCE:
            failed.append(path.stem)
    tail = f"; not: {', '.join(failed)}" if failed else ""
    print(f"{len(asked.dumps) - len(failed)} of {len(asked.dumps)} dumps agree to {TOLERANCE:g}{tail}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
