"""Training of the text encoder alone: any text to the meaning that the denoiser draws, with a sentence model as guide.

Three kinds of examples: prompts written for recipes, whose meaning is known; ordinary words matched to looks by hand; and words
and fragments of all sorts, whose meaning is that of the looks whose phrases the sentence model finds nearest.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from .concepts import Concept, ordinary_words
from .meaning import WIDTH, SentenceTeacher, kept_meanings
from .networks import TEXT_WIDTH, new_text_encoder
from .palettes import COLOUR_NAMES, PALETTE_TEMPLATES, SINGLE_TEMPLATES, TONES
from .prompts import MIXTURES, SUBJECTS, TEMPLATES, WORDS, PromptWriter, woven
from .recipes import RecipeBook
from .record import TrainingRecord
from .tokenizer import token_ids

BATCH = 192
POOL = 6  # batches that are drawn together and sorted by length
FULL_LENGTH = 0.15  # share of batches that keep all 32 places
LEARNING_RATE = 1.5e-3
RECIPES, ORDINARY = 0.45, 0.2  # shares of a batch; the rest are words and fragments
FRAGMENTS = 150_000
NEIGHBOURS, SHARPNESS = 4, 0.025  # looks that a free text is a blend of, and how sharply the nearest one wins
CHECKPOINT_STEPS = 200
WORD_SPREAD = 0.05  # standard deviation of the word vectors at the start
MEANING_SHARE = 2.0  # weight of the sentence embedding in the loss


@dataclass(frozen=True)
class FreeTexts:
    """`texts` with their sentence embeddings [N, 384] and the concepts [N, NEIGHBOURS] and shares they stand for."""

    texts: list[str]
    embeddings: Tensor
    neighbours: Tensor
    shares: Tensor


class TextNetwork(nn.Module):
    """Token ids [B, T] -> (recipe meaning [B, width], sentence embedding [B, 384]), read off where the text has ended.

    The encoder looks back only, so its output from the end mark on knows the whole text.
    """

    def __init__(self, encoder: CLIPTextModel, *, width: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.meaning = nn.Linear(TEXT_WIDTH, width)
        self.embedding = nn.Linear(TEXT_WIDTH, WIDTH)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        states = self.encoder(ids).last_hidden_state
        ended = (ids == self.encoder.config.eos_token_id).to(states.dtype)[..., None]
        mean = (states * ended).sum(dim=1) / ended.sum(dim=1)
        return self.meaning(mean), F.normalize(self.embedding(mean).float(), dim=1)


def fragments(phrases: list[str], *, count: int, seed: int) -> list[str]:
    """Short runs of words cut from phrases, alone or two together: free texts about pictures."""
    generator = np.random.default_rng(seed)
    known = np.array(phrases)  # made once: `choice` would make it again at every draw
    made = []
    for _ in range(count):
        parts = []
        for phrase in generator.choice(known, size=1 + int(generator.random() < 0.4)):
            words = str(phrase).replace(",", " ").split()
            length = int(generator.integers(1, 7))
            start = int(generator.integers(max(len(words) - length, 0) + 1))
            parts.append(" ".join(words[start : start + length]))
        made.append(" ".join(parts))
    return made


def free_texts(work: Path, concepts: list[Concept], teacher: SentenceTeacher) -> FreeTexts:
    """Words and fragments with what they mean, by the phrases nearest to them; tags take no part, they are all alike."""
    named = [(phrase, number) for number, concept in enumerate(concepts) if concept.kind != "tags" for phrase in concept.phrases]
    phrases, owners = [phrase for phrase, _ in named], torch.tensor([number for _, number in named])
    bank = kept_meanings(work / "phrase_meanings.pt", phrases, teacher)
    texts = teacher.words() + fragments([*phrases, *ordinary_words()], count=FRAGMENTS, seed=5)
    embeddings = kept_meanings(work / "free_meanings.pt", texts, teacher)
    neighbours, shares = [], []
    for part in embeddings.split(512):
        scores = torch.full((len(part), len(concepts)), -1.0)
        scores.scatter_reduce_(1, owners.expand(len(part), -1), part @ bank.T, "amax")
        best = scores.topk(NEIGHBOURS, dim=1)
        neighbours.append(best.indices)
        shares.append((best.values / SHARPNESS).softmax(dim=1))
    return FreeTexts(texts, embeddings, torch.cat(neighbours), torch.cat(shares))


def words_by_concept(concepts: list[Concept]) -> dict[int, list[str]]:
    """The ordinary words whose single best look is each concept."""
    numbers = {concept.key: number for number, concept in enumerate(concepts)}
    found: dict[int, list[str]] = {}
    for text, keys in ordinary_words().items():
        if keys[0] in numbers:
            found.setdefault(numbers[keys[0]], []).append(text)
    return found


class TextExamples:
    """Endless random batches of texts and what they mean."""

    def __init__(self, concepts: list[Concept], book: RecipeBook, free: FreeTexts) -> None:
        self.book, self.free = book, free
        self.writer = PromptWriter(concepts, extra=words_by_concept(concepts))
        self.codes = torch.from_numpy(np.stack([book.concept_code(number) for number in range(len(concepts))]))
        self.rest = book.width - self.codes.shape[1]
        numbers = {concept.key: number for number, concept in enumerate(concepts)}
        known = ((text, [numbers[key] for key in keys if key in numbers]) for text, keys in ordinary_words().items())
        self.ordinary = [(text, found) for text, found in known if found]

    def batch(self, count: int, generator: np.random.Generator) -> tuple[list[str], Tensor, Tensor]:
        """(texts, meanings [B, width], sentence embeddings [B, 384], 0 where none is known)."""
        texts: list[str] = []
        meanings: list[Tensor] = []
        embeddings = torch.zeros(count, WIDTH)
        for i, kind in enumerate(generator.random(count)):
            if kind < RECIPES or (kind < RECIPES + ORDINARY and not self.ordinary):
                recipe = self.book.drawn(generator)
                texts.append(self.writer(recipe, generator))
                meanings.append(torch.from_numpy(self.book.meaning(recipe)))
            elif kind < RECIPES + ORDINARY:
                text, numbers = self.ordinary[int(generator.integers(len(self.ordinary)))]
                texts.append(woven(text, generator) if generator.random() < 0.6 else text)
                meanings.append(self._padded(self.codes[numbers].mean(dim=0)))
            else:
                number = int(generator.integers(len(self.free.texts)))
                plain = generator.random() < 0.7
                texts.append(self.free.texts[number] if plain else woven(self.free.texts[number], generator))
                blend = (self.free.shares[number][:, None] * self.codes[self.free.neighbours[number]]).sum(dim=0)
                meanings.append(self._padded(blend))
                embeddings[i] = self.free.embeddings[number]
        return texts, torch.stack(meanings), embeddings

    def batches(self, tokenizer: CLIPTokenizer, generator: np.random.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(ids [BATCH, T], meanings, sentence embeddings) without end: texts of like length share a batch, cut to their length.

        Now and then a batch keeps all 32 places, so that the padding, too, learns to carry the meaning.
        """
        while True:
            texts, meanings, embeddings = self.batch(POOL * BATCH, generator)
            ids = torch.tensor(token_ids(tokenizer, texts))
            lengths = (ids == int(tokenizer.eos_token_id)).int().argmax(dim=1) + 1
            parts = list(lengths.argsort().split(BATCH))
            for number in generator.permutation(len(parts)):
                part = parts[int(number)]
                width = ids.shape[1] if generator.random() < FULL_LENGTH else min(int(lengths[part].max()) + 2, ids.shape[1])
                yield ids[part, :width], meanings[part], embeddings[part]

    def _padded(self, code: Tensor) -> Tensor:
        return torch.cat([code, torch.zeros(self.rest)])


def text_loss(network: TextNetwork, ids: Tensor, meanings: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """(mean squared error of the meaning, 1 - cosine of the sentence embedding over the texts that have one)."""
    with torch.autocast(ids.device.type, torch.bfloat16):
        meaning, embedding = network(ids)
    has = embeddings.square().sum(dim=1) > 0
    cosine = (embedding * embeddings).sum(dim=1)[has]
    return F.mse_loss(meaning.float(), meanings), 1 - (cosine.mean() if len(cosine) else cosine.new_ones(()))


def load_text_network(path: Path, tokenizer: CLIPTokenizer, *, width: int) -> TextNetwork:
    """The network of a checkpoint, or a fresh one; frozen."""
    network = fresh_text_network(tokenizer, width=width)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["network"])
    return network.eval().requires_grad_(False)


def fresh_text_network(tokenizer: CLIPTokenizer, *, width: int) -> TextNetwork:
    """A text encoder with random weights and its two heads."""
    start, end = int(tokenizer.bos_token_id), int(tokenizer.eos_token_id)
    return TextNetwork(new_text_encoder(vocabulary=len(tokenizer), start=start, end=end), width=width)


def give_words_meaning(encoder: CLIPTextModel, tokenizer: CLIPTokenizer, free: FreeTexts) -> None:
    """Start the vectors of whole words from the main directions of their sentence embeddings: related words begin as neighbours."""
    known = tokenizer.get_vocab()
    places = [(known[f"{text}</w>"], row) for row, text in enumerate(free.texts) if f"{text}</w>" in known]
    rows = free.embeddings[[row for _, row in places]]
    centred = rows - rows.mean(dim=0)
    _, _, axes = torch.linalg.svd(centred, full_matrices=False)
    vectors = centred @ axes[:TEXT_WIDTH].T
    table = encoder.get_input_embeddings().weight
    with torch.no_grad():
        table[[token for token, _ in places]] = (WORD_SPREAD * vectors / vectors.std()).to(table)


def train_text(
    *, work: Path, concepts: list[Concept], book: RecipeBook, start: Path | None, minutes: float, device: torch.device, seed: int
) -> Path:
    """Train until the time budget is used up, from the last checkpoint on; returns the checkpoint's path.

    start: a finished model folder whose text encoder to begin with; the work folder must have that folder's tokenizer.
    """
    path = work / "text.pt"
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    torch.manual_seed(seed)
    network = fresh_text_network(tokenizer, width=book.width)
    if start is not None:
        network.encoder.load_state_dict(CLIPTextModel.from_pretrained(start / "text_encoder").float().state_dict())
    network.to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.02)
    step, spent = 0, 0.0
    if path.exists():
        state = torch.load(path, map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent = state["step"], state["seconds"]
    free = free_texts(work, concepts, SentenceTeacher(device=device))
    if step == 0 and start is None:
        give_words_meaning(network.encoder, tokenizer, free)
    examples = TextExamples(concepts, book, free)
    batches = examples.batches(tokenizer, np.random.default_rng([seed, step]))
    with TrainingRecord(work / "text.csv", title="text", budget_seconds=60 * minutes, spent_seconds=spent) as record:
        while record.fraction < 1.0:
            rate = LEARNING_RATE * min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * record.fraction)))
            for group in optimizer.param_groups:
                group["lr"] = rate
            ids, meanings, embeddings = (tensor.to(device) for tensor in next(batches))
            loss, sentence = text_loss(network, ids, meanings, embeddings)
            optimizer.zero_grad(set_to_none=True)
            (loss + MEANING_SHARE * sentence).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            step += 1
            if step % 20 == 0:
                record.note(step=step, values={"meaning": loss.item(), "sentence": sentence.item()})
            if step % CHECKPOINT_STEPS == 0 or record.fraction >= 1.0:
                state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
                torch.save({**state, "seconds": record.spent_seconds}, path.with_suffix(".partial"))
                path.with_suffix(".partial").replace(path)
    return path


def tokenizer_texts(concepts: list[Concept], words: list[str]) -> list[str]:
    """Texts whose words the tokenizer should know whole: phrases and ordinary words several times, other words once."""
    ours = [phrase for concept in concepts for phrase in concept.phrases] + list(ordinary_words())
    patterns = [*TEMPLATES, *MIXTURES, *PALETTE_TEMPLATES, *SINGLE_TEMPLATES, *COLOUR_NAMES, *WORDS, *SUBJECTS]
    tones = [phrase for change in TONES for phrase in change.phrases]
    return 4 * ours + 20 * (patterns + tones) + words
