"""Trains the embedded video model from photos and clips to the finished model folder, in resumable stages.

    python tools/train_embedded_video.py --data DIR --clips DIR --image-model DIR --out DIR --work DIR [--minutes M] [--stage NAME]

`--data` holds the photo shards, `--clips` recorded clips (those named by --clip), `--image-model` the embedded image model, whose
autoencoder and text encoder are used as they are. `--work` takes everything that can be made again: decoded photos,
latents, the checkpoint, the loss CSV and its plot, filmstrips, figures. Stages: data, train, export, sheets, judge,
card; `all` runs them in this order. One CPU core is enough (--threads).
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from embedded.photos import decoded_photos
from embedded.plots import plot_losses
from embedded.precision import quick_dtype
from embedded_video.card import write_card
from embedded_video.drift import clouds
from embedded_video.export import export_folder, megabytes
from embedded_video.figures import dream_figures, of_look, rate
from embedded_video.looks import looks, prompt_bank
from embedded_video.motion import Clip, Recordings, moving_photo
from embedded_video.network import new_transformer
from embedded_video.parts import encoder_of, read_autoencoder, read_text
from embedded_video.playing import Player
from embedded_video.pool import CHANNELS, FRAMES, SIDE, Pool, make_shard
from embedded_video.sheets import dream_sheet, follow_sheet, strip, write
from embedded_video.training import Training
from rich.console import Console
from rich.progress import track

CPU = torch.device("cpu")
STAGES = ("data", "train", "export", "sheets", "judge", "card")
CLIPS = ("webcam_person_640x480.mp4", "pedestrians_768x576.mp4", "animation_1280x720.mp4")
RECORDED, CLOUDED = 0.40, 0.08  # shares of the inputs; the rest are moving photos
WAYS = 24  # prompts a look
JUDGED, DREAMT = 18, 150  # pictures of a held-back stretch, and of a dream
SHEET_PROMPTS = ("", "neon edges", "blueprint", "lava", "fire", "aurora", "thermal camera", "underwater", "x-ray", "toxic green")
DREAM_PROMPTS = ("fire", "underwater", "aurora", "thermal camera", "lava", "ice", "neon edges", "")
SWITCH = ("thermal camera", "underwater")
RATES = ((128, 1, 1), (128, 1, 2), (128, 2, 2), (256, 1, 2))  # side, steps, threads
console = Console()


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the embedded video model.")
    parser.add_argument("--data", type=Path, required=True, help="photos_256_*.tar and photos.json")
    parser.add_argument("--clips", type=Path, required=True, help="a folder with recorded clips")
    parser.add_argument("--clip", action="append", help=f"a file of it to learn from; several may be named (default: {', '.join(CLIPS)})")
    parser.add_argument("--image-model", type=Path, required=True, help="the embedded image model: vae, text_encoder, tokenizer")
    parser.add_argument("--out", type=Path, required=True, help="the model folder to write")
    parser.add_argument("--work", type=Path, required=True, help="for checkpoints and all that can be made again")
    parser.add_argument("--minutes", type=float, default=35.0, help="training time in all, over all runs")
    parser.add_argument("--stage", choices=(*STAGES, "all"), default="all")
    parser.add_argument("--shards", type=int, default=16, help="of 160 clips in a look and 32 dreams")
    parser.add_argument("--batch", type=int, default=4, help="clips of 8 frames")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def any_motion(photos: np.ndarray, recordings: Recordings) -> Callable[[np.random.Generator], Clip]:
    """A source of clips of all kinds."""

    def draw(generator: np.random.Generator) -> Clip:
        kind = generator.random()
        if kind < RECORDED:
            return recordings.random(generator, frames=FRAMES, side=SIDE)
        if kind < RECORDED + CLOUDED:
            return clouds(generator.standard_normal((FRAMES, CHANNELS, SIDE // 8, SIDE // 8), dtype=np.float32))
        return moving_photo(photos, generator, frames=FRAMES, side=SIDE)

    return draw


def make_data(options: argparse.Namespace) -> None:
    """Shards of latents; those that are there stay."""
    _, autoencoder = read_autoencoder(options.image_model / "vae", dtype=quick_dtype(CPU))
    photos = decoded_photos(options.data, options.work)
    recordings = Recordings([options.clips / name for name in options.clip or CLIPS])
    source = any_motion(photos, recordings)
    for number in track(range(options.shards), description="clips", console=console):
        path = options.work / f"shard_{number:03d}.pt"
        if not path.exists():
            make_shard(path, source=source, encode=encoder_of(autoencoder), looks=looks(), seed=1000 * options.seed + number)


def train(options: argparse.Namespace) -> None:
    """The transformer, from the beginning or from where it was."""
    bank = prompt_bank(looks(), read_text(options.image_model), ways=WAYS, seed=options.seed)
    torch.manual_seed(options.seed)
    training = Training(
        new_transformer(channels=CHANNELS, text=bank.shape[-1]), Pool(options.work, seed=options.seed), bank, options.work,
        batch=options.batch, seed=options.seed,
    )  # fmt: skip
    training.run(minutes=options.minutes)
    plot_losses(options.work / "training.csv", options.work / "training.png")


def card(options: argparse.Namespace) -> None:
    """The model card, from the records and the figures."""
    write_card(options.out, work=options.work)


def export(options: argparse.Namespace) -> None:
    """The moving average of the weights as a model folder."""
    state = torch.load(options.work / "training.pt", weights_only=True)
    vae, _ = read_autoencoder(options.image_model / "vae", dtype=torch.float16)
    text = state["average"]["condition_embedder.text_embedder.linear_1.weight"].shape[1]
    transformer = new_transformer(channels=CHANNELS, text=text)
    transformer.load_state_dict(state["average"])
    export_folder(options.out, transformer=transformer, vae=vae, image_model=options.image_model)
    console.print(f"{options.out}: {megabytes(options.out):.1f} MB after {state['step']} steps, {state['seconds'] / 60:.0f} minutes")


def held_back(options: argparse.Namespace) -> list[Clip]:
    """Stretches of the recorded clips that were not learned from."""
    recordings = Recordings([options.clips / name for name in options.clip or CLIPS])
    generator = np.random.default_rng(99)
    return [recordings.stretch(number, generator, frames=JUDGED, side=SIDE) for number in range(len(recordings.clips))]


def sheets(options: argparse.Namespace) -> None:
    """Filmstrips of the exported folder."""
    player = Player(options.out, dtype=quick_dtype(CPU))
    for number, clip in enumerate(held_back(options)):
        follow_sheet(options.work / f"follow_{number}.png", player, clip, SHEET_PROMPTS)
    dream_sheet(options.work / "dream.png", player, DREAM_PROMPTS)
    clip = held_back(options)[0]
    switching = [SWITCH[0]] * 12 + [SWITCH[1]] * (len(clip) - 12)
    made = player(clip, switching)
    write(options.work / "switch.png", [strip(clip, "input", first=10, every=1), strip(made, " to ".join(SWITCH), first=10, every=1)])


def judge(options: argparse.Namespace) -> None:
    """Figures of the exported folder, as JSON; those that are there already stay."""
    path = options.work / "judge.json"
    report = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"looks": {}, "dreams": {}, "rates": []}
    player, every, clips = Player(options.out, dtype=quick_dtype(CPU)), looks(), held_back(options)

    def keep() -> None:
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")

    for side, steps, threads in RATES[len(report["rates"]) :]:
        fps = rate(player, clips[0], side=side, steps=steps, threads=threads)
        report["rates"].append({"side": side, "steps": steps, "threads": threads, "fps": fps})
        keep()
    for name in DREAM_PROMPTS[:4]:
        if name not in report["dreams"]:
            report["dreams"][name] = dict(dream_figures(player, name, frames=DREAMT))
            keep()
    for look in track(every, description="looks", console=console):
        name = look.name or "(empty)"
        if name not in report["looks"]:
            report["looks"][name] = asdict(of_look(player, look, clips, every))
            keep()


def run(options: argparse.Namespace) -> None:
    """The stages asked for, in order."""
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    wanted = STAGES if options.stage == "all" else (options.stage,)
    stages = {"data": make_data, "train": train, "export": export, "sheets": sheets, "judge": judge, "card": card}
    for name in wanted:
        stages[name](options)


if __name__ == "__main__":
    run(arguments())
