"""Trains the embedded model from photos and style vectors to the finished diffusers folder, in resumable stages.

    python tools/train_embedded.py --data DIR --weights DIR --out DIR --work DIR [--minutes M] [--stage NAME]

`--data` holds the photo shards and the style table, `--weights` the style teacher and TAESD, `--work` takes
everything that can be made again: decoded photos, pairs, latents, checkpoints, loss CSVs and contact sheets. Runs on
the CPU or on one GPU. Stages: data, autoencoder, denoiser, export; `all` runs them in this order.
"""

import argparse
from pathlib import Path

import torch
from embedded.autoencoder import load_autoencoder, train_autoencoder
from embedded.denoiser import Conditioned, DenoiserTraining
from embedded.export import export_folder
from embedded.looks import LOOKS, RECOMMENDED
from embedded.networks import parameter_count
from embedded.pairs import LookPainter, make_shard
from embedded.photos import decoded_photos
from embedded.prompts import corpus
from embedded.sheet import Restyler, prompt_sheet, strength_sheet
from embedded.style_teacher import StyleTable, StyleTeacher
from embedded.tokenizer import train_tokenizer
from rich.console import Console
from rich.progress import track
from transformers import CLIPTokenizer

STAGES = ("data", "autoencoder", "denoiser", "export")
MERGES = 1500
AUTOENCODER_SHARE = 0.2  # of --minutes; the denoiser takes the rest
SHOWN_PHOTOS = (216, 577, 1245, 569)  # photos of the contact sheets
console = Console()


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the embedded model.")
    parser.add_argument("--data", type=Path, required=True, help="photos_256_*.tar, photos.json, styles.json/.npz")
    parser.add_argument("--weights", type=Path, required=True, help="style_teacher/ and taesd/")
    parser.add_argument("--out", type=Path, required=True, help="the diffusers folder to write")
    parser.add_argument("--work", type=Path, required=True, help="for checkpoints and all that can be made again")
    parser.add_argument("--minutes", type=float, default=120.0, help="training time in all, over all runs")
    parser.add_argument("--stage", choices=(*STAGES, "all"), default="all")
    parser.add_argument("--shards", type=int, default=30, help="shards of 2,048 pairs of 128-pixel pictures")
    parser.add_argument("--large-shards", type=int, default=8, help="shards of 512 pairs of 256-pixel pictures")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of torch")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def make_data(options: argparse.Namespace, device: torch.device) -> None:
    """Photos decoded, tokenizer trained, pairs drawn."""
    train_tokenizer(corpus(LOOKS, options.data), options.work / "tokenizer", merges=MERGES)
    photos = decoded_photos(options.data, options.work)
    teacher = StyleTeacher(options.weights / "style_teacher" / "transformer.safetensors", device=device)
    painter = LookPainter(looks=LOOKS, teacher=teacher, table=StyleTable(options.data), device=device)
    wanted = [(128, i) for i in range(options.shards)] + [(256, i) for i in range(options.large_shards)]
    for side, number in track(wanted, description="pairs", console=console):
        path = options.work / f"pairs_{side}_{number:03d}"
        if not path.exists():
            seed = 1_000_000 * options.seed + 1000 * side + number
            make_shard(path, photos=photos, painter=painter, side=side, seed=seed)


def denoiser_training(options: argparse.Namespace, device: torch.device) -> DenoiserTraining:
    """The training run in the work folder, from its last checkpoint."""
    tokenizer = CLIPTokenizer.from_pretrained(options.work / "tokenizer")
    autoencoder = load_autoencoder(options.work / "autoencoder.pt").to(device)
    torch.manual_seed(options.seed)
    return DenoiserTraining(options.work, tokenizer, autoencoder, device)


def draw_sheets(options: argparse.Namespace, training: DenoiserTraining, network: Conditioned) -> None:
    """Contact sheets of the current weights into the work folder."""
    tokenizer = CLIPTokenizer.from_pretrained(options.work / "tokenizer")
    restyler = Restyler(network=network, autoencoder=training.finished_autoencoder(), tokenizer=tokenizer)
    photos = decoded_photos(options.data, options.work)
    shown = [photos[number] for number in SHOWN_PHOTOS]
    prompt_sheet(options.work / f"sheet_{training.step:06d}.png", restyler, shown, RECOMMENDED)
    strength_sheet(options.work / f"strength_{training.step:06d}.png", restyler, shown[0], RECOMMENDED[:5])


def export(options: argparse.Namespace, training: DenoiserTraining) -> None:
    """The averaged weights into the folder that ships."""
    average = training.average.eval()
    export_folder(
        options.out,
        unet=average.unet,
        vae=training.finished_autoencoder(),
        text_encoder=average.text_encoder,
        tokenizer_folder=options.work / "tokenizer",
    )


def main() -> None:
    """Run the chosen stages."""
    options = arguments()
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    stages = STAGES if options.stage == "all" else (options.stage,)
    options.work.mkdir(parents=True, exist_ok=True)
    if "data" in stages:
        make_data(options, device)
    if "autoencoder" in stages:
        minutes = options.minutes * AUTOENCODER_SHARE
        taesd = options.weights / "taesd"
        train_autoencoder(work=options.work, taesd=taesd, minutes=minutes, device=device, seed=options.seed)
    if "denoiser" in stages:
        training = denoiser_training(options, device)
        minutes = options.minutes * (1 - AUTOENCODER_SHARE)
        training.run(minutes=minutes, seed=options.seed, on_checkpoint=lambda: export(options, training))
        draw_sheets(options, training, training.average)
    if "export" in stages:
        training = denoiser_training(options, device)
        export(options, training)
        draw_sheets(options, training, training.average.eval())
        counts = {name: parameter_count(part) for name, part in training.average.named_children()}
        console.print(f"wrote {options.out} after {training.step} steps: {counts}")


if __name__ == "__main__":
    main()
