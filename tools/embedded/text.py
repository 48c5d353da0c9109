"""Training of the text encoder alone: any text to the meaning that the denoiser draws, with a sentence model as guide.

Three things are read off the end of a text: the meaning of its recipe, which concepts it asks for, and its sentence embedding.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from .checkpoint import replace_checkpoint
from .concepts import Concept, ordinary_words
from .finishing import on_device
from .free_texts import DIRECTIONS, FreeTexts
from .networks import TEXT_WIDTH, new_text_encoder
from .palettes import COLOUR_NAMES, PALETTE_TEMPLATES, SINGLE_TEMPLATES, TONES
from .precision import quickly
from .prompts import MIXTURES, SUBJECTS, TEMPLATES, WORDS
from .recipes import RecipeBook
from .record import TrainingRecord
from .text_examples import Examples

FULL_LENGTH = 0.15  # share of batches that keep all 32 places
LEARNING_RATE = 1.2e-3
CHECKPOINT_STEPS, NOTE_STEPS = 400, 20
WORD_SPREAD = 0.05  # standard deviation of the word vectors at the start
SENTENCE, CHOICE = 2.0, 0.3  # weights of the sentence embedding and of the choice of concepts beside the meaning
DROPPED = 0.1  # share of a text's inner tokens that are hidden: no single word may decide


class TextNetwork(nn.Module):
    """Token ids [B, T] -> (recipe meaning [B, width], scores of the concepts [B, K], sentence embedding [B, DIRECTIONS] at unit length).

    They are read where the text has ended: the encoder looks back only, so its output from the end mark on knows the whole text.
    """

    def __init__(self, encoder: CLIPTextModel, *, width: int, concepts: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.meaning = nn.Linear(TEXT_WIDTH, width)
        self.choice = nn.Linear(TEXT_WIDTH, concepts)
        self.embedding = nn.Linear(TEXT_WIDTH, DIRECTIONS)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        states = self.encoder(ids).last_hidden_state
        ended = (ids == self.encoder.config.eos_token_id).to(states.dtype)[..., None]
        mean = (states * ended).sum(dim=1) / ended.sum(dim=1)
        return self.meaning(mean).float(), self.choice(mean).float(), F.normalize(self.embedding(mean).float(), dim=1)


class ExampleTable:
    """Examples on the training device, with the codes of the concepts and the sentence embeddings they refer to."""

    def __init__(self, examples: Examples, book: RecipeBook, free: FreeTexts, *, end: int, device: torch.device) -> None:
        ordered = examples.sorted_by_length(end)
        self.ids, self.concepts = on_device(ordered.ids, device), on_device(ordered.concepts, device)
        self.shares, self.rest = on_device(ordered.shares, device), on_device(ordered.rest, device)
        self.sentences = on_device(ordered.sentences, device)
        self.lengths = (ordered.ids == end).argmax(axis=1) + 1
        codes = np.stack([book.concept_code(number) for number in range(len(book.concepts))])
        self.codes, self.embeddings = on_device(codes, device), free.embeddings.to(device)

    def rows(self, count: int, generator: np.random.Generator) -> tuple[Tensor | slice, int]:
        """Rows of a random batch and the places its texts take: texts of like length share a batch, cut to their length.

        Now and then a batch is of all lengths and keeps all places, so that the padding, too, learns to carry the meaning.
        """
        if generator.random() < FULL_LENGTH:
            return on_device(generator.integers(len(self.lengths), size=count), self.ids.device), self.ids.shape[1]
        start = int(generator.integers(max(len(self.lengths) - count + 1, 1)))
        chosen = slice(start, start + count)
        return chosen, min(int(self.lengths[chosen].max()) + 2, self.ids.shape[1])

    def batches(self, count: int, generator: np.random.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """(ids [B, T], meanings [B, width], shares of the concepts [B, K], sentence embeddings, 0 where none is known) without end."""
        while True:
            chosen, places = self.rows(count, generator)
            concepts, shares = self.concepts[chosen].long(), self.shares[chosen].float()
            asked = torch.zeros(len(concepts), len(self.codes), device=shares.device).scatter_add_(1, concepts, shares)
            sentences = self.sentences[chosen].long()
            known = self.embeddings[sentences.clamp(min=0)].float() * (sentences >= 0)[:, None]
            yield self.ids[chosen, :places].long(), torch.cat([asked @ self.codes, self.rest[chosen].float()], dim=1), asked, known


def hidden_words(ids: Tensor, *, start: int, end: int, share: float) -> Tensor:
    """Token ids [B, T] without a random share of the words of longer texts: what is left moves up, the end fills the places."""
    words = (ids != start) & (ids != end)
    longer = words.sum(dim=1, keepdim=True) > 3
    gone = words & longer & (torch.rand(ids.shape, device=ids.device) < share)
    order = gone.to(torch.uint8).argsort(dim=1, stable=True)
    return torch.where(gone.gather(1, order), end, ids.gather(1, order))


def text_loss(network: TextNetwork, ids: Tensor, meanings: Tensor, asked: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(mean squared error of the meaning, cross-entropy of the concepts, 1 - cosine of the sentence embedding where one is known)."""
    with quickly(ids.device):
        meaning, scores, embedding = network(ids)
    known = embeddings.square().sum(dim=1) > 0
    unlike = torch.where(known, 1 - (embedding * embeddings).sum(dim=1), 0.0).sum() / known.sum().clamp(min=1)
    return F.mse_loss(meaning, meanings), F.cross_entropy(scores, asked), unlike


def load_text_network(path: Path, tokenizer: CLIPTokenizer, *, width: int, concepts: int) -> TextNetwork:
    """The network of a checkpoint; frozen."""
    network = fresh_text_network(tokenizer, width=width, concepts=concepts)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["network"])
    return network.eval().requires_grad_(False)


def fresh_text_network(tokenizer: CLIPTokenizer, *, width: int, concepts: int) -> TextNetwork:
    """A text encoder with random weights and its three heads."""
    start, end = int(tokenizer.bos_token_id), int(tokenizer.eos_token_id)
    return TextNetwork(new_text_encoder(vocabulary=len(tokenizer), start=start, end=end), width=width, concepts=concepts)


def give_words_meaning(encoder: CLIPTextModel, tokenizer: CLIPTokenizer, free: FreeTexts) -> None:
    """Start the vectors of whole words from their sentence embeddings: related words begin as neighbours."""
    known = tokenizer.get_vocab()
    places = [(known[f"{text}</w>"], row) for row, text in enumerate(free.texts) if f"{text}</w>" in known]
    rows = free.embeddings[[row for _, row in places]].float()
    vectors = rows - rows.mean(dim=0)
    table = encoder.get_input_embeddings().weight
    with torch.no_grad():
        table[[token for token, _ in places], : vectors.shape[1]] = (WORD_SPREAD * vectors / vectors.std()).to(table)


class TextTraining:
    """State of one training run that can be stopped and taken up again from its checkpoint.

    start: a finished model folder whose text encoder to begin with; the work folder must have that folder's tokenizer.
    """

    def __init__(self, work: Path, concepts: list[Concept], book: RecipeBook, free: FreeTexts, *, start: Path | None, device: torch.device,
        seed: int) -> None:  # fmt: skip
        self.path, self.work, self.device, self.seed = work / "text.pt", work, device, seed
        self.tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
        torch.manual_seed(seed)
        self.network = fresh_text_network(self.tokenizer, width=book.width, concepts=len(concepts))
        if start is not None:
            self.network.encoder.load_state_dict(CLIPTextModel.from_pretrained(start / "text_encoder").float().state_dict())
        elif not self.path.exists():
            give_words_meaning(self.network.encoder, self.tokenizer, free)
        self.network.to(device)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.05)
        self.step, self.seconds = 0, 0.0
        if self.path.exists():
            state = torch.load(self.path, map_location=device, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.seconds = state["step"], state["seconds"]

    def save(self, seconds: float) -> None:
        """Replace the checkpoint."""
        state = {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step, "seconds": seconds}
        replace_checkpoint(self.path, state)

    def run(self, table: ExampleTable, *, batch: int, minutes: float) -> None:
        """Train until `minutes` in all are used up."""
        batches = table.batches(batch, np.random.default_rng([self.seed, self.step]))
        marks = {"start": int(self.tokenizer.bos_token_id), "end": int(self.tokenizer.eos_token_id)}
        with TrainingRecord(self.work / "text.csv", title="text", budget_seconds=60 * minutes, spent_seconds=self.seconds) as record:
            while record.fraction < 1.0:
                share = min(1.0, (self.step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * record.fraction)))
                for group in self.optimizer.param_groups:
                    group["lr"] = LEARNING_RATE * share
                ids, meanings, asked, embeddings = next(batches)
                ids = hidden_words(ids, share=DROPPED, **marks)
                meaning, choice, sentence = text_loss(self.network, ids, meanings, asked, embeddings)
                self.optimizer.zero_grad(set_to_none=True)
                (meaning + CHOICE * choice + SENTENCE * sentence).backward()
                torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
                self.optimizer.step()
                self.step += 1
                if self.step % NOTE_STEPS == 0:
                    values = {"meaning": meaning, "choice": choice, "sentence": sentence}
                    record.note(step=self.step, values={name: value.item() for name, value in values.items()})
                if self.step % CHECKPOINT_STEPS == 0:
                    self.save(record.spent_seconds)
            self.save(record.spent_seconds)


def tokenizer_texts(concepts: list[Concept], words: list[str]) -> list[str]:
    """Texts whose words the tokenizer should know whole: phrases and ordinary words several times, other words once."""
    ours = [phrase for concept in concepts for phrase in concept.phrases] + list(ordinary_words())
    patterns = [*TEMPLATES, *MIXTURES, *PALETTE_TEMPLATES, *SINGLE_TEMPLATES, *COLOUR_NAMES, *WORDS, *SUBJECTS]
    tones = [phrase for change in TONES for phrase in change.phrases]
    return 4 * ours + 20 * (patterns + tones) + words
