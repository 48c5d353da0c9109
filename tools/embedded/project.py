"""What the stages of a training run of the embedded model share: its folders, sizes, pairs and networks."""

import argparse
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from rich.console import Console
from transformers import CLIPTextModel, CLIPTokenizer

from .artist import ArtistMaker
from .concepts import Concept, all_concepts
from .conditioned import Conditioned
from .denoiser import DenoiserTraining
from .drawing_room import DrawingRoom, Layout
from .export import export_folder
from .finishing import Finisher
from .networks import new_denoiser
from .pair_pool import PairPool
from .pairs import PairArtist
from .photos import decoded_photos
from .recipes import RecipeBook
from .scale import Scale, scale_of
from .sheet import Restyler, contact_sheets
from .style_teacher import StyleTable, StyleTeacher
from .text import load_text_network
from .tokenizer import token_ids
from .trained import trained_autoencoder

# of --minutes
SHARES = {"text": 0.15, "autoencoder": 0.2, "denoiser": 0.35, "inversion": 0.1, "tuning": 0.05, "styling": 0.1, "polish": 0.05}
FIRST_PAIRS = 0.05  # share of the pool that is filled before training begins
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
        """Where pairs are drawn, for all stages of this run but the styling."""
        return self._room(in_turn=False)

    @cached_property
    def room_in_turn(self) -> DrawingRoom:
        """Where pairs of every look in turn are drawn."""
        return self._room(in_turn=True)

    def _room(self, *, in_turn: bool) -> DrawingRoom:
        options = self.options
        decoded_photos(options.data, options.work)
        maker = ArtistMaker(data=options.data, work=options.work, side=self.scale.side, in_turn=in_turn)
        layout = Layout(count=self.scale.drawn, side=self.scale.side)
        return self.closing.enter_context(DrawingRoom(maker, layout=layout, processes=self.processes, seed=options.seed))

    def finisher(self) -> Finisher:
        """What finishes drawn pairs."""
        teacher = StyleTeacher(self.options.weights / "style_teacher" / "transformer.safetensors", device=self.device)
        return Finisher(self.concepts, teacher, self.device)

    def artist(self) -> PairArtist:
        """One who draws pairs in this process."""
        return ArtistMaker(data=self.options.data, work=self.options.work, side=self.scale.side)()

    def pairs(self, room: DrawingRoom, autoencoder: AutoencoderTiny | None) -> PairPool:
        """A pool of pairs, filled as far as training needs to begin; with latents where an autoencoder is given."""
        pool = PairPool(room, self.finisher(), capacity=self.scale.pool, autoencoder=autoencoder, seed=self.options.seed)
        with console.status("drawing the first pairs"):
            while pool.count < FIRST_PAIRS * self.scale.pool:
                pool.renew(wait=True)
        return pool

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
        given = {"device": self.device, "scale": self.scale, "seed": options.seed, "finished": options.start is not None}
        return DenoiserTraining(options.work, network, autoencoder, empty=empty, **given)

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
        contact_sheets(work, restyler, decoded_photos(self.options.data, work), step=training.step)
