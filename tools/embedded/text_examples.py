"""Examples for the text encoder: texts as token numbers with what they mean, written in advance by several processes."""

import multiprocessing
import os
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import torch
from transformers import CLIPTokenizer

from .concepts import Concept, ordinary_words
from .free_texts import NEIGHBOURS, FreeTexts
from .prompts import PromptWriter, woven
from .recipes import RecipeBook
from .tokenizer import token_ids

RECIPES, ORDINARY, PHRASES = 0.4, 0.1, 0.25  # shares: recipes, words matched by hand, bare phrases; the rest are free texts
TOKENIZED_AT_ONCE = 2048


@dataclass(frozen=True)
class Examples:
    """N texts: token `ids` int16 [N, 32]; `concepts` int16 [N, NEIGHBOURS] they ask for with `shares` float16; `rest` float16 [N, R],
    colours and light; `sentences` int32 [N], the row of the free texts whose embedding they have, -1 for none."""

    ids: npt.NDArray[np.int16]
    concepts: npt.NDArray[np.int16]
    shares: npt.NDArray[np.float16]
    rest: npt.NDArray[np.float16]
    sentences: npt.NDArray[np.int32]

    @staticmethod
    def joined(parts: list["Examples"]) -> "Examples":
        """All parts one after the other."""
        return Examples(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Examples)))

    def sorted_by_length(self, end: int) -> "Examples":
        """The same, shortest texts first; `end` is the token that ends a text and fills its place up."""
        order = (self.ids == end).argmax(axis=1).argsort(kind="stable")
        return Examples(*(getattr(self, field.name)[order] for field in fields(self)))


def words_by_concept(concepts: list[Concept]) -> dict[int, list[str]]:
    """The ordinary words whose single best look is each concept."""
    numbers = {concept.key: number for number, concept in enumerate(concepts)}
    found: dict[int, list[str]] = {}
    for text, keys in ordinary_words().items():
        if keys[0] in numbers:
            found.setdefault(numbers[keys[0]], []).append(text)
    return found


class ExampleWriter:
    """Writes random examples."""

    def __init__(self, concepts: list[Concept], book: RecipeBook, free: FreeTexts, tokenizer: CLIPTokenizer) -> None:
        self.book, self.tokenizer, self.concepts = book, tokenizer, concepts
        self.free = replace(free, embeddings=torch.empty(0))  # only its rows are told here
        self.writer = PromptWriter(concepts, extra=words_by_concept(concepts))
        numbers = {concept.key: number for number, concept in enumerate(concepts)}
        known = ((text, [numbers[key] for key in keys if key in numbers]) for text, keys in ordinary_words().items())
        self.ordinary = [(text, found) for text, found in known if found]
        self.named = [number for number, concept in enumerate(concepts) if concept.kind != "tags"]
        self.rest = book.width - len(book.concept_code(0))

    def written(self, count: int, seed: list[int]) -> Examples:
        """`count` examples; the same seed gives the same."""
        generator = np.random.default_rng(seed)
        texts: list[str] = []
        concepts = np.zeros((count, NEIGHBOURS), np.int16)
        shares = np.zeros((count, NEIGHBOURS), np.float16)
        rest = np.zeros((count, self.rest), np.float16)
        sentences = np.full(count, -1, np.int32)
        for i, kind in enumerate(generator.random(count)):
            if kind < RECIPES:
                recipe = self.book.drawn(generator)
                found = [number for number in (recipe.first, recipe.second) if number >= 0]
                rest[i] = self.book.meaning(recipe)[-self.rest :]
                text = self.writer(recipe, generator)
            elif kind < RECIPES + ORDINARY and self.ordinary:
                text, found = self.ordinary[int(generator.integers(len(self.ordinary)))]
                text = woven(text, generator) if generator.random() < 0.5 else text
            elif kind < RECIPES + ORDINARY + PHRASES:
                found = [self.named[int(generator.integers(len(self.named)))]]
                phrases = self.concepts[found[0]].phrases
                text = phrases[int(generator.integers(len(phrases)))]
            else:
                sentences[i] = row = int(generator.integers(len(self.free.texts)))
                text = self.free.texts[row] if generator.random() < 0.7 else woven(self.free.texts[row], generator)
                found = self.free.neighbours[row].tolist()
                shares[i, : len(found)] = self.free.shares[row].numpy()
            texts.append(text)
            concepts[i, : len(found)] = found
            if sentences[i] < 0:
                shares[i, : len(found)] = 1 / len(found)
        starts = range(0, count, TOKENIZED_AT_ONCE)
        ids = [token_ids(self.tokenizer, texts[start : start + TOKENIZED_AT_ONCE]) for start in starts]
        return Examples(np.concatenate([np.array(part, np.int16) for part in ids]), concepts, shares, rest, sentences)


def written_examples(writer: ExampleWriter, *, count: int, processes: int, seed: int) -> Examples:
    """`count` examples, or a few more, by that many processes at once, 1 for this one alone. Other numbers of processes give others."""
    size = -(-count // max(4 * processes, 1))
    jobs = [(size, [seed, number]) for number in range(-(-count // size))]
    if processes <= 1:
        return Examples.joined([writer.written(*job) for job in jobs])
    with multiprocessing.get_context("spawn").Pool(processes, initializer=_start, initargs=(writer,)) as pool:
        return Examples.joined(pool.starmap(_write, jobs))


_writer: list[ExampleWriter] = []


def _start(writer: ExampleWriter) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one process a core already
    _writer.append(writer)


def _write(count: int, seed: list[int]) -> Examples:
    return _writer[0].written(count, seed)
