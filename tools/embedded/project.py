"""One training run of the embedded model: its folders and its stages, from the data to the finished folder; run by train_embedded.py."""

import argparse
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from rich.console import Console
from transformers import CLIPTextModel, CLIPTokenizer

from .artist import ArtistMaker
from .autoencoder import AutoencoderTraining
from .card import write_card
from .concepts import Concept, all_concepts, ordinary_words
from .denoiser import Conditioned, DenoiserTraining
from .drawing_room import DrawingRoom, Layout
from .export import export_folder
from .finishing import Finisher, signed
from .free_texts import free_texts
from .looks import RECOMMENDED
from .meaning import SentenceTeacher
from .networks import new_denoiser, parameter_count
from .pair_pool import PairPool
from .photos import decoded_photos
from .plots import plot_losses
from .polish import Polish, moving_photos, photo_latents
from .prompts import PromptWriter
from .recipes import RecipeBook
from .scale import Scale, scale_of
from .sheet import Restyler, prompt_sheet, strength_sheet
from .style_teacher import StyleTable, StyleTeacher
from .text import ExampleTable, TextTraining, load_text_network, tokenizer_texts
from .text_examples import ExampleWriter, words_by_concept, written_examples
from .tokenizer import token_ids, train_tokenizer
from .trained import polished_unet, trained_autoencoder, tuned_text_encoder
from .tuning import Readout, TextTuning, plain_readouts

STAGES = ("data", "text", "autoencoder", "denoiser", "tuning", "polish", "export", "card")
SHARES = {"text": 0.15, "autoencoder": 0.2, "denoiser": 0.55, "tuning": 0.05, "polish": 0.05}  # of --minutes
MERGES = 12_000
FIRST_PAIRS = 0.05  # share of the pool that is filled before training begins
SHOWN_PHOTOS = (216, 577, 1245, 569)  # photos of the contact sheets
console = Console()


@dataclass
class Project:
    """What the stages share, made when first asked for."""

    options: argparse.Namespace
    device: torch.device
    closing: ExitStack

    @cached_property
    def scale(self) -> Scale:
        """How large to train."""
        return scale_of(self.device)

    @cached_property
    def concepts(self) -> list[Concept]:
        """All that can be asked for by name."""
        return all_concepts(StyleTable(self.options.data))

    @cached_property
    def book(self) -> RecipeBook:
        """The recipes over the concepts."""
        return RecipeBook(self.concepts)

    @property
    def processes(self) -> int:
        """How many processes work beside the training."""
        return self.scale.processes if self.options.processes is None else int(self.options.processes)

    def minutes(self, stage: str) -> float:
        """Time for one stage."""
        stages = [name for name in self.options.stage.split(",") if name in SHARES] or list(SHARES)
        return float(self.options.minutes) * SHARES[stage] / sum(SHARES[name] for name in stages)

    def tokenizer(self) -> CLIPTokenizer:
        """The trained tokenizer."""
        return CLIPTokenizer.from_pretrained(self.options.work / "tokenizer")

    @cached_property
    def room(self) -> DrawingRoom:
        """Where pairs are drawn, for all stages of this run."""
        options = self.options
        decoded_photos(options.data, options.work)
        maker = ArtistMaker(data=options.data, work=options.work, side=self.scale.side)
        layout = Layout(count=self.scale.drawn, side=self.scale.side)
        return self.closing.enter_context(DrawingRoom(maker, layout=layout, processes=self.processes, seed=options.seed))

    def pairs(self, room: DrawingRoom, autoencoder: AutoencoderTiny | None) -> PairPool:
        """A pool of pairs, filled as far as training needs to begin; with latents where an autoencoder is given."""
        teacher = StyleTeacher(self.options.weights / "style_teacher" / "transformer.safetensors", device=self.device)
        finisher = Finisher(self.concepts, teacher, self.device)
        pool = PairPool(room, finisher, capacity=self.scale.pool, autoencoder=autoencoder, seed=self.options.seed)
        with console.status("drawing the first pairs"):
            while pool.count < FIRST_PAIRS * self.scale.pool:
                pool.renew(wait=True)
        return pool

    def data(self) -> None:
        """Photos decoded, tokenizer trained, the meanings of free texts found."""
        options = self.options
        tokenizer = options.work / "tokenizer"
        if options.start is not None:
            shutil.copytree(options.start / "tokenizer", tokenizer, dirs_exist_ok=True)
        elif not tokenizer.exists():
            words = SentenceTeacher(device=self.device).words()
            train_tokenizer(tokenizer_texts(self.concepts, words), tokenizer, merges=MERGES)
        decoded_photos(options.data, options.work)
        free_texts(options.work / "free_texts.pt", self.concepts, self.device)

    def text(self) -> None:
        """The text encoder."""
        options = self.options
        free = free_texts(options.work / "free_texts.pt", self.concepts, self.device)
        training = TextTraining(options.work, self.concepts, self.book, free, start=options.start, device=self.device, seed=options.seed)
        writer = ExampleWriter(self.concepts, self.book, free, training.tokenizer)
        with console.status("writing texts"):
            examples = written_examples(writer, count=self.scale.examples, processes=self.processes, seed=options.seed + training.step)
        table = ExampleTable(examples, self.book, free, end=int(training.tokenizer.eos_token_id), device=self.device)
        training.run(table, batch=self.scale.texts, minutes=self.minutes("text"))

    def autoencoder(self) -> None:
        """The autoencoder."""
        options, room = self.options, self.room  # its processes begin while the network is made
        torch.manual_seed(options.seed)
        training = AutoencoderTraining(options.work, start=options.start, device=self.device, scale=self.scale, seed=options.seed)
        training.run(self.pairs(room, None), minutes=self.minutes("autoencoder"))

    def trained_text_encoder(self) -> CLIPTextModel:
        """This run's text encoder, or else that of the model it starts from; float32."""
        known, start = self.options.work / "text.pt", self.options.start
        if known.exists() or start is None:
            return load_text_network(known, self.tokenizer(), width=self.book.width, concepts=len(self.concepts)).encoder
        encoder: CLIPTextModel = CLIPTextModel.from_pretrained(start / "text_encoder").float()
        return encoder

    def denoiser_training(self) -> DenoiserTraining:
        """The training run in the work folder, from its last checkpoint."""
        options, tokenizer = self.options, self.tokenizer()
        torch.manual_seed(options.seed)
        autoencoder, text_encoder = trained_autoencoder(options.work, options.start), self.trained_text_encoder()
        unet = new_denoiser()
        if options.start is not None:
            unet.load_state_dict(UNet2DConditionModel.from_pretrained(options.start / "unet").state_dict())
        network = Conditioned(unet, text_encoder, autoencoder.decoder)
        empty = torch.tensor(token_ids(tokenizer, [""])[0])
        return DenoiserTraining(options.work, network, autoencoder, empty=empty, device=self.device, scale=self.scale, seed=options.seed)

    def denoiser(self) -> None:
        """The denoiser, with the folder and a sheet at every checkpoint."""
        room = self.room  # its processes begin while the networks are made
        training = self.denoiser_training()

        def on_checkpoint() -> None:
            self.write(training)
            self.draw(training)

        training.run(self.pairs(room, training.autoencoder), minutes=self.minutes("denoiser"), on_checkpoint=on_checkpoint)

    def tuning(self) -> None:
        """The text encoder tuned to the finished denoiser."""
        options, training = self.options, self.denoiser_training()
        network, tokenizer = training.average, self.tokenizer()
        generator = torch.Generator(self.device).manual_seed(options.seed)
        photos = decoded_photos(options.data, options.work)
        shown = signed(torch.from_numpy(np.array(photos[: len(RECOMMENDED)])).to(self.device))
        ids = torch.tensor(token_ids(tokenizer, list(RECOMMENDED)), device=self.device)
        with torch.no_grad():
            readout = Readout(network.unet, training.autoencoder.encode(shown).latents, network.texts(ids), generator=generator)
        plain = plain_readouts(readout, network.text_encoder, tokenizer, self.concepts)
        tuning = TextTuning(options.work, network.text_encoder, readout, plain, device=self.device)
        free = free_texts(options.work / "free_texts.pt", self.concepts, self.device)
        writer = ExampleWriter(self.concepts, self.book, free, tokenizer)
        with console.status("writing texts"):
            count, seed = self.scale.examples, 1000 + options.seed + tuning.step
            examples = written_examples(writer, count=count, processes=self.processes, seed=seed)
        tuning.run(examples, batch=self.scale.tuned, minutes=self.minutes("tuning"), seed=options.seed)

    def polish(self) -> None:
        """The denoiser taught by its own one-step pictures what strengths below 1 are."""
        options, training, tokenizer = self.options, self.denoiser_training(), self.tokenizer()
        network = training.average
        network.text_encoder.load_state_dict(tuned_text_encoder(options.work, network.text_encoder).state_dict())
        crops = {"count": self.scale.polish_photos, "side": self.scale.side, "seed": options.seed, "device": self.device}
        photos = decoded_photos(options.data, options.work)
        contents = photo_latents(photos, training.autoencoder, **crops)
        moving = moving_photos(photos, training.autoencoder, **crops)
        writer = PromptWriter(self.concepts, extra=words_by_concept(self.concepts))
        generator = np.random.default_rng([options.seed, 3])
        prompts = [writer(self.book.drawn(generator), generator) for _ in range(self.scale.polish_texts)]
        ids = torch.tensor(token_ids(tokenizer, ["", *prompts]), device=self.device)
        texts = torch.cat([network.texts(part) for part in ids.split(256)])
        polish = Polish(options.work, network, device=self.device, seed=options.seed)
        sizes = {"batch": self.scale.polished, "pairs": self.scale.moved}
        polish.run(contents, texts[1:], texts[:1], moving, **sizes, minutes=self.minutes("polish"))

    def export(self) -> None:
        """The averaged weights into the folder that ships, and the last sheets and plots."""
        training = self.denoiser_training()
        training.average.unet = polished_unet(self.options.work, training.average.unet)
        training.average.text_encoder = tuned_text_encoder(self.options.work, training.average.text_encoder)
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
            "phrases": f"{sum(len(concept.phrases) for concept in self.concepts if concept.kind != 'tags'):,}",
            "recommended": ", ".join(f"`{name}`" for name in RECOMMENDED),
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
        shown = [photos[number % len(photos)] for number in SHOWN_PHOTOS]
        prompt_sheet(work / f"sheet_{training.step:06d}.png", restyler, shown, RECOMMENDED)
        strength_sheet(work / f"strength_{training.step:06d}.png", restyler, shown[0], RECOMMENDED[:5])
