"""Words and fragments of all sorts with what they mean: the looks whose phrases a sentence model finds nearest."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .concepts import Concept, ordinary_words
from .meaning import SentenceTeacher

FRAGMENTS = 150_000
NEIGHBOURS, SHARPNESS = 4, 0.025  # looks that a free text is a blend of, and how sharply the nearest one wins
PHRASES_HEARD = 3  # a look is as near as its nearest phrases are on average
DIRECTIONS = 64  # main directions of the sentence embeddings that are kept


@dataclass(frozen=True)
class FreeTexts:
    """`texts` with the main part of their sentence embeddings [N, D], at unit length, and what they stand for.

    neighbours, shares: the numbers of NEIGHBOURS concepts for each text and how much of it is each.
    """

    texts: list[str]
    embeddings: Tensor
    neighbours: Tensor
    shares: Tensor


def fragments(phrases: list[str], *, count: int, seed: int) -> list[str]:
    """Short runs of words cut from phrases, alone or two together: free texts about pictures."""
    generator = np.random.default_rng(seed)
    known = np.array(phrases)  # made once: `choice` would make it again at every draw
    made = []
    for _ in range(count):
        parts = []
        for phrase in generator.choice(known, size=1 + int(generator.random() < 0.4)):
            words = str(phrase).replace(",", " ").split()
            length = int(generator.integers(1, 9))
            start = int(generator.integers(max(len(words) - length, 0) + 1))
            parts.append(" ".join(words[start : start + length]))
        made.append(" ".join(parts))
    return made


def main_directions(embeddings: Tensor, count: int) -> Tensor:
    """[D, count] orthonormal: the directions in which embeddings [N, D] are longest, the longest first."""
    _, axes = torch.linalg.eigh(embeddings.double().T @ embeddings.double())
    return axes.flip(dims=(1,))[:, :count].float()


def nearest_concepts(embeddings: Tensor, bank: Tensor, owners: Tensor) -> tuple[Tensor, Tensor]:
    """For texts [N, D] the NEIGHBOURS concepts whose phrases `bank` [M, D], owned by `owners` [M], are nearest, and their shares."""
    asked, counts = owners.unique(return_counts=True)
    rows = torch.full((len(asked), int(counts.max())), len(owners))
    for row, concept in zip(rows, asked, strict=True):
        own = (owners == concept).nonzero()[:, 0]
        row[: len(own)] = own
    heard = min(PHRASES_HEARD, rows.shape[1])
    neighbours, shares = [], []
    for part in embeddings.split(256):
        likeness = F.pad(part @ bank.T, (0, 1), value=-1.0)[:, rows]
        best = likeness.topk(heard, dim=2).values.mean(dim=2).topk(min(NEIGHBOURS, len(asked)), dim=1)
        neighbours.append(asked[best.indices])
        shares.append((best.values / SHARPNESS).softmax(dim=1))
    return torch.cat(neighbours), torch.cat(shares)


def free_texts(path: Path, concepts: list[Concept], device: torch.device) -> FreeTexts:
    """Read from `path`, or made with the sentence model and left there. Tags take no part, they are all alike."""
    if path.exists():
        return FreeTexts(**torch.load(path, weights_only=True))
    return kept(path, concepts, SentenceTeacher(device=device))


def kept(path: Path, concepts: list[Concept], teacher: SentenceTeacher) -> FreeTexts:
    """Made with the sentence model and left at `path`."""
    named = [(phrase, number) for number, concept in enumerate(concepts) if concept.kind != "tags" for phrase in concept.phrases]
    phrases, owners = [phrase for phrase, _ in named], torch.tensor([number for _, number in named])
    free = [*dict.fromkeys([*phrases, *ordinary_words(), *teacher.words(), *fragments(phrases, count=FRAGMENTS, seed=5)])]
    bank, embeddings = teacher(phrases), teacher(free)
    neighbours, shares = nearest_concepts(embeddings, bank, owners)
    reduced = F.normalize(embeddings @ main_directions(embeddings, DIRECTIONS), dim=1)
    found = {"embeddings": reduced.half(), "neighbours": neighbours.short(), "shares": shares.half()}
    torch.save({"texts": free, **found}, path)
    return FreeTexts(free, **found)
