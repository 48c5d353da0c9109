"""The stages of a training run of the embedded model, from the data to the finished folder; run by train_embedded.py."""

import shutil
from dataclasses import dataclass

import numpy as np
import torch

from .autoencoder import AutoencoderTraining
from .card import card_facts, write_card
from .finishing import signed
from .free_texts import free_texts
from .inversion import Inversion, PaintedStyles, learned_shifts, plain_ids, plain_texts
from .known_styles import known_styles
from .looks import RECOMMENDED
from .meaning import SentenceTeacher
from .networks import parameter_count
from .perceptual import PerceptualLoss
from .photos import decoded_photos
from .plots import plot_losses
from .polish import Polish, moving_photos, photo_latents
from .project import SHARES, Project, console
from .prompts import PromptWriter
from .styling import Styling
from .text import ExampleTable, TextTraining, tokenizer_texts
from .text_examples import ExampleWriter, words_by_concept, written_examples
from .tokenizer import token_ids, train_tokenizer
from .trained import polished_unet, styled_unet, tuned_text_encoder
from .tuning import Readout, TextTuning, plain_readouts

STAGES = ("data", "text", "autoencoder", "denoiser", "inversion", "tuning", "styling", "polish", "export", "card")
MERGES = 12_000


@dataclass
class Stages(Project):
    """A run; each method is a stage, in the order of STAGES."""

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

    def denoiser(self) -> None:
        """The denoiser, with the folder and a sheet at every checkpoint."""
        room = self.room  # its processes begin while the networks are made
        training = self.denoiser_training()

        def on_checkpoint() -> None:
            self.write(training)
            self.draw(training)

        training.run(self.pairs(room, training.autoencoder), minutes=self.minutes("denoiser"), on_checkpoint=on_checkpoint)

    def inversion(self) -> None:
        """What the finished denoiser must hear for every concept, beside what the text encoder says."""
        options, training = self.options, self.denoiser_training()
        styles = PaintedStyles(training.average, training.autoencoder, self.artist(), self.finisher())
        inversion = Inversion(options.work, styles, tokenizer=self.tokenizer(), seed=options.seed)
        inversion.run(batch=self.scale.inverted, minutes=self.minutes("inversion"))

    def tuning(self) -> None:
        """The text encoder tuned to the finished denoiser."""
        options, training = self.options, self.denoiser_training()
        network, tokenizer = training.average, self.tokenizer()
        generator = torch.Generator(self.device).manual_seed(options.seed)
        photos = decoded_photos(options.data, options.work)
        shown = signed(torch.from_numpy(np.array(photos[: len(RECOMMENDED)])).to(self.device))
        asked = torch.tensor(token_ids(tokenizer, list(RECOMMENDED)), device=self.device)
        with torch.no_grad():
            readout = Readout(network.unet, training.autoencoder.encode(shown).latents, network.texts(asked), generator=generator)
        shifts = learned_shifts(options.work, len(self.concepts)).to(self.device)
        ids = plain_ids(tokenizer, self.concepts)
        plain = plain_readouts(readout, plain_texts(network.text_encoder, ids), shifts)
        named = [number for number, concept in enumerate(self.concepts) if concept.kind != "tags"]
        how = {"named": named, "finished": options.start is not None, "device": self.device}
        tuning = TextTuning(options.work, network.text_encoder, readout, shifts, ids, plain, **how)
        free = free_texts(options.work / "free_texts.pt", self.concepts, self.device)
        writer = ExampleWriter(self.concepts, self.book, free, tokenizer)
        with console.status("writing texts"):
            count, seed = self.scale.examples, 1000 + options.seed + tuning.step
            examples = written_examples(writer, count=count, processes=self.processes, seed=seed)
        tuning.run(examples, batch=self.scale.tuned, minutes=self.minutes("tuning"), seed=options.seed)

    def styling(self) -> None:
        """The denoiser taught by the style of its pictures, told by the tuned text encoder."""
        options, room, training = self.options, self.room_in_turn, self.denoiser_training()
        network = training.average
        network.text_encoder = tuned_text_encoder(options.work, network.text_encoder)
        eye = PerceptualLoss().to(self.device)
        with console.status("looking at every style"):
            path = options.work / "known_styles.pt"
            means, examples = known_styles(path, options.data, self.artist(), self.finisher(), eye, seed=options.seed)
        styling = Styling(options.work, network, means, examples, eye, empty=training.empty, device=self.device, seed=options.seed)
        styling.run(self.pairs(room, training.autoencoder), batch=self.scale.styled, minutes=self.minutes("styling"))

    def polish(self) -> None:
        """The denoiser taught by its own one-step pictures what strengths below 1 are."""
        options, training, tokenizer = self.options, self.denoiser_training(), self.tokenizer()
        network = training.average
        network.unet = styled_unet(options.work, network.unet)
        network.text_encoder = tuned_text_encoder(options.work, network.text_encoder)
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
        facts = card_facts(self.concepts, vocabulary=len(self.tokenizer()))
        write_card(options.out, work=options.work, judged=options.judged, facts=facts)
