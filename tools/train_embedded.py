"""Trains the embedded model from photos and style vectors to the finished diffusers folder, in resumable stages.

    python tools/train_embedded.py --data DIR --weights DIR --out DIR --work DIR [--minutes M] [--stage NAME]

`--data` holds the photo shards and the style table, `--weights` the style teacher and TAESD, `--work` takes everything
that can be made again: decoded photos, pairs, latents, checkpoints, loss CSVs and plots, contact sheets. Runs on the CPU or on
one GPU. Stages: data, autoencoder, text, decoder, denoiser, export, card; `all` runs them in this order; `--stage card --judged DIR`
writes the model card again with the figures of tools/judge_embedded.py. Needs the extra `train`.
"""

import argparse
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from embedded.autoencoder import load_autoencoder, train_autoencoder
from embedded.card import write_card
from embedded.concepts import Concept, all_concepts, ordinary_words
from embedded.decoder import DecoderPolish
from embedded.denoiser import Conditioned, DenoiserTraining, Prompted
from embedded.export import export_folder
from embedded.looks import RECOMMENDED
from embedded.meaning import SentenceTeacher
from embedded.networks import new_denoiser, parameter_count
from embedded.pairs import RecipePainter, make_shard, open_shard, shard_paths
from embedded.photos import decoded_photos
from embedded.plots import plot_losses
from embedded.prompts import PromptWriter
from embedded.recipes import RecipeBook
from embedded.sheet import Restyler, prompt_sheet, strength_sheet
from embedded.style_teacher import StyleTable, StyleTeacher
from embedded.text import load_text_network, tokenizer_texts, train_text, words_by_concept
from embedded.tokenizer import train_tokenizer
from rich.console import Console
from rich.progress import track
from transformers import CLIPTokenizer

STAGES = ("data", "autoencoder", "text", "decoder", "denoiser", "export", "card")
SHARES = {"autoencoder": 0.1, "text": 0.1, "decoder": 0.15, "denoiser": 0.65}  # of --minutes
MERGES = 12_000
SHOWN_PHOTOS = (216, 577, 1245, 569)  # photos of the contact sheets
SHEET_CHECKPOINTS = 4  # a sheet every so many checkpoints of the denoiser
console = Console()


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the embedded model.")
    parser.add_argument("--data", type=Path, required=True, help="photos_256_*.tar, photos.json, styles.json/.npz")
    parser.add_argument("--weights", type=Path, required=True, help="style_teacher/ and taesd/")
    parser.add_argument("--out", type=Path, required=True, help="the diffusers folder to write")
    parser.add_argument("--work", type=Path, required=True, help="for checkpoints and all that can be made again")
    parser.add_argument("--start", type=Path, help="a finished model folder to begin with")
    parser.add_argument("--judged", type=Path, help="a folder with judge.json, for the model card")
    parser.add_argument("--minutes", type=float, default=120.0, help="training time in all, over all runs")
    parser.add_argument("--stage", choices=(*STAGES, "all"), default="all")
    parser.add_argument("--shards", type=int, default=30, help="shards of 2,048 pairs of 128-pixel pictures")
    parser.add_argument("--large-shards", type=int, default=12, help="shards of 512 pairs of 256-pixel pictures")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of torch")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


@dataclass
class Project:
    """What the stages share, made when first asked for."""

    options: argparse.Namespace
    device: torch.device

    @cached_property
    def concepts(self) -> list[Concept]:
        """All that can be asked for by name."""
        return all_concepts(StyleTable(self.options.data))

    @cached_property
    def book(self) -> RecipeBook:
        """The recipes over the concepts."""
        return RecipeBook(self.concepts)

    def minutes(self, stage: str) -> float:
        """Time for one stage."""
        return float(self.options.minutes) * SHARES[stage]

    def tokenizer(self) -> CLIPTokenizer:
        """The trained tokenizer."""
        return CLIPTokenizer.from_pretrained(self.options.work / "tokenizer")

    def data(self) -> None:
        """Photos decoded, tokenizer trained, pairs drawn."""
        options = self.options
        if options.start is None:
            words = SentenceTeacher(device=self.device).words()
            train_tokenizer(tokenizer_texts(self.concepts, words), options.work / "tokenizer", merges=MERGES)
        else:
            shutil.copytree(options.start / "tokenizer", options.work / "tokenizer", dirs_exist_ok=True)
        photos = decoded_photos(options.data, options.work)
        teacher = StyleTeacher(options.weights / "style_teacher" / "transformer.safetensors", device=self.device)
        painter = RecipePainter(concepts=self.concepts, teacher=teacher, device=self.device)
        wanted = [(128, i) for i in range(options.shards)] + [(256, i) for i in range(options.large_shards)]
        for side, number in track(wanted, description="pairs", console=console):
            path = options.work / f"pairs_{side}_{number:03d}"
            if not path.exists():
                seed = 1_000_000 * options.seed + 1000 * side + number
                make_shard(path, photos=photos, painter=painter, book=self.book, side=side, seed=seed)

    def autoencoder(self) -> None:
        """The autoencoder, both halves together."""
        options = self.options
        train_autoencoder(
            work=options.work,
            taesd=options.weights / "taesd",
            start=options.start,
            minutes=self.minutes("autoencoder"),
            device=self.device,
            seed=options.seed,
        )

    def text(self) -> None:
        """The text encoder."""
        options = self.options
        train_text(
            work=options.work,
            concepts=self.concepts,
            book=self.book,
            start=options.start,
            minutes=self.minutes("text"),
            device=self.device,
            seed=options.seed,
        )

    def decoder(self) -> None:
        """The decoder on its own."""
        autoencoder = load_autoencoder(self.options.work / "autoencoder.pt").to(self.device)
        torch.manual_seed(self.options.seed)
        DecoderPolish(self.options.work, autoencoder, self.device).run(minutes=self.minutes("decoder"), seed=self.options.seed)

    def denoiser_training(self) -> DenoiserTraining:
        """The training run in the work folder, from its last checkpoint."""
        options, tokenizer = self.options, self.tokenizer()
        torch.manual_seed(options.seed)
        autoencoder = load_autoencoder(options.work / "autoencoder.pt").to(self.device)
        polished = options.work / "decoder.pt"
        if polished.exists():
            autoencoder.decoder.load_state_dict(torch.load(polished, map_location=self.device, weights_only=True)["average"])
        text = load_text_network(options.work / "text.pt", tokenizer, width=self.book.width)
        unet = new_denoiser()
        if options.start is not None:
            unet.load_state_dict(UNet2DConditionModel.from_pretrained(options.start / "unet").state_dict())
        network = Conditioned(unet, text.encoder, autoencoder.decoder)
        prompted = Prompted(tokenizer, PromptWriter(self.concepts, extra=words_by_concept(self.concepts)))
        return DenoiserTraining(options.work, prompted, network, autoencoder, self.device)

    def denoiser(self) -> None:
        """The denoiser, with sheets on the way."""
        training = self.denoiser_training()
        checkpoints = 0

        def on_checkpoint() -> None:
            nonlocal checkpoints
            self.write(training)
            if checkpoints % SHEET_CHECKPOINTS == 0:
                self.draw(training)
            checkpoints += 1

        training.run(minutes=self.minutes("denoiser"), seed=self.options.seed, on_checkpoint=on_checkpoint)

    def export(self) -> None:
        """The averaged weights into the folder that ships, and the last sheets and plots."""
        training = self.denoiser_training()
        self.write(training)
        self.draw(training)
        for name in SHARES:
            plot_losses(self.options.work / f"{name}.csv", self.options.work / f"{name}.png")
        counts = {name: parameter_count(part) for name, part in training.average.named_children()}
        console.print(f"wrote {self.options.out} after {training.step} steps: {counts}")

    def card(self) -> None:
        """MODEL.md in the folder that ships."""
        options = self.options
        kinds = [concept.kind for concept in self.concepts]
        facts = {
            "looks": kinds.count("look"),
            "tags": kinds.count("tags"),
            "styles": len(kinds) - kinds.count("look") - kinds.count("tags"),
            "words": f"{len(ordinary_words()):,}",
            "recommended": ", ".join(f"`{name}`" for name in RECOMMENDED),
            "small_pairs": f"{sum(len(open_shard(path).recipes) for path in shard_paths(options.work, side=128)):,}",
            "large_pairs": f"{sum(len(open_shard(path).recipes) for path in shard_paths(options.work, side=256)):,}",
            "vocabulary": f"{len(self.tokenizer()):,}",
        }
        write_card(options.out, work=options.work, judged=options.judged, facts=facts)

    def write(self, training: DenoiserTraining) -> None:
        """The current averaged weights into the folder that ships."""
        export_folder(
            self.options.out,
            unet=training.average.unet,
            vae=training.finished_autoencoder(),
            text_encoder=training.average.text_encoder,
            tokenizer_folder=self.options.work / "tokenizer",
        )

    def draw(self, training: DenoiserTraining) -> None:
        """Contact sheets of the current averaged weights into the work folder."""
        work = self.options.work
        restyler = Restyler(network=training.average, autoencoder=training.finished_autoencoder(), tokenizer=self.tokenizer())
        photos = decoded_photos(self.options.data, work)
        shown = [photos[number] for number in SHOWN_PHOTOS]
        prompt_sheet(work / f"sheet_{training.step:06d}.png", restyler, shown, RECOMMENDED)
        strength_sheet(work / f"strength_{training.step:06d}.png", restyler, shown[0], RECOMMENDED[:5])


def main() -> None:
    """Run the chosen stages."""
    options = arguments()
    torch.set_num_threads(options.threads)
    project = Project(options, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    options.work.mkdir(parents=True, exist_ok=True)
    for stage in STAGES if options.stage == "all" else (options.stage,):
        getattr(project, stage)()


if __name__ == "__main__":
    main()
