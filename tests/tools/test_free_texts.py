"""Free texts: fragments of phrases, and the looks whose phrases are nearest to them, against formulas written another way."""

from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from embedded import free_texts as module
from embedded.concepts import Concept, ordinary_words
from embedded.free_texts import DIRECTIONS, NEIGHBOURS, PHRASES_HEARD, SHARPNESS, fragments, free_texts, main_directions, nearest_concepts
from embedded.meaning import WIDTH

CPU = torch.device("cpu")
MIXED = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(0))  # no word lies along one axis


class WordCounts:
    """Texts by which words they hold: as a sentence model does, likest texts lie nearest."""

    def words(self) -> list[str]:
        return ["neon", "pencil", "sketch", "dancer"]

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        counts = torch.zeros(len(texts), WIDTH)
        for row, text in zip(counts, texts, strict=True):
            for word in text.lower().split():
                row[crc32(word.encode()) % WIDTH] += 1
        return F.normalize(counts @ MIXED, dim=1)


def test_fragments_are_runs_of_words_of_the_phrases() -> None:
    phrases = ["thick oil paint on canvas", "neon, glowing edges"]
    made = fragments(phrases, count=200, seed=5)
    assert made == fragments(phrases, count=200, seed=5) and len(made) == 200
    split = [phrase.replace(",", " ").split() for phrase in phrases]
    runs = {" ".join(words[i:j]) for words in split for i in range(len(words)) for j in range(i + 1, min(i + 6, len(words)) + 1)}
    assert set(made) <= runs | {f"{one} {other}" for one in runs for other in runs}
    assert set(made) & runs and set(made) - runs


def test_main_directions_are_the_axes_of_a_singular_value_decomposition() -> None:
    generator = torch.Generator().manual_seed(1)
    embeddings = torch.randn(200, 12, generator=generator) * torch.linspace(3, 0.5, 12) @ torch.randn(12, 12, generator=generator)
    made = main_directions(embeddings, 5)
    _, scales, axes = np.linalg.svd(embeddings.double().numpy(), full_matrices=False)
    np.testing.assert_allclose(made.T @ made, np.eye(5), atol=1e-5)
    np.testing.assert_allclose(np.abs((made.numpy() * axes[:5].T).sum(axis=0)), 1, atol=1e-4)  # either sign
    np.testing.assert_allclose((embeddings @ made).norm(dim=0), scales[:5], rtol=1e-4)


def test_texts_along_few_directions_keep_their_likeness() -> None:
    generator = torch.Generator().manual_seed(2)
    embeddings = F.normalize(torch.randn(50, 4, generator=generator) @ torch.randn(4, 30, generator=generator), dim=1)
    reduced = embeddings @ main_directions(embeddings, 4)
    torch.testing.assert_close(reduced @ reduced.T, embeddings @ embeddings.T, atol=1e-5, rtol=0)


@pytest.mark.parametrize("owned", [(7, 3, 5, 4, 9), (1, 2, 2), (3, 3, 4, 3, 3, 3, 6)])
def test_nearest_concepts_are_those_of_a_loop_over_texts_and_phrases(owned: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(3)
    numbers = [10 + 3 * place for place in range(len(owned))]
    owners = torch.tensor([number for number, count in zip(numbers, owned, strict=True) for _ in range(count)])
    owners = owners[torch.randperm(len(owners), generator=generator)]
    bank = F.normalize(torch.randn(len(owners), 6, generator=generator), dim=1)
    texts = F.normalize(torch.randn(300, 6, generator=generator), dim=1)
    neighbours, shares = nearest_concepts(texts, bank, owners)
    heard, kept = min(PHRASES_HEARD, max(owned)), min(NEIGHBOURS, len(owned))
    assert neighbours.shape == shares.shape == (300, kept)
    for text, found, share in zip(texts.double().numpy(), neighbours.tolist(), shares.numpy(), strict=True):
        scores = {}
        for number in numbers:
            likeness = sorted(bank.double().numpy()[owners.numpy() == number] @ text, reverse=True)[:heard]
            scores[number] = np.mean(likeness + [-1.0] * (heard - len(likeness)))  # who says little is heard less
        best = sorted(numbers, key=lambda number: -scores[number])[:kept]
        weights = np.exp((np.array([scores[number] for number in best]) - scores[best[0]]) / SHARPNESS)
        assert found == best
        np.testing.assert_allclose(share, weights / weights.sum(), atol=2e-4)


def test_free_texts_are_made_once_and_read_from_then_on(
    tmp_path: Path, toy_concepts: list[Concept], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FRAGMENTS", 50)
    made = []
    monkeypatch.setattr(module, "SentenceTeacher", lambda device: made.append(device) or WordCounts())
    tags = Concept("tags/oil, portrait", ["an unlikely list of tags"], vector=toy_concepts[-1].vector)
    concepts = [*toy_concepts[:20], tags]
    found = free_texts(tmp_path / "free_texts.pt", concepts, CPU)
    again = free_texts(tmp_path / "free_texts.pt", concepts, CPU)
    assert made == [CPU] and again.texts == found.texts
    for name in ("embeddings", "neighbours", "shares"):
        assert torch.equal(getattr(again, name), getattr(found, name))
    phrases = {phrase for concept in concepts[:20] for phrase in concept.phrases}
    assert set(found.texts) >= phrases | set(ordinary_words()) | {"neon", "dancer"} and "an unlikely list of tags" not in found.texts
    assert len(found.texts) == len(set(found.texts))
    count = len(found.texts)
    assert found.embeddings.shape == (count, DIRECTIONS) and found.neighbours.shape == found.shares.shape == (count, NEIGHBOURS)
    assert bool((found.neighbours >= 0).all()) and bool((found.neighbours < 20).all())
    torch.testing.assert_close(found.embeddings.float().norm(dim=1), torch.ones(count), atol=2e-3, rtol=0)
    torch.testing.assert_close(found.shares.float().sum(dim=1), torch.ones(count), atol=2e-3, rtol=0)
    assert bool((found.shares.float().diff(dim=1) <= 0).all())


def test_the_nearest_look_of_a_text_is_that_whose_three_nearest_phrases_are_likest(
    tmp_path: Path, toy_concepts: list[Concept], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FRAGMENTS", 50)
    teacher, concepts = WordCounts(), toy_concepts[:20]
    found = module.kept(tmp_path / "free_texts.pt", concepts, teacher)  # type: ignore[arg-type]
    rows = range(0, len(found.texts), 41)
    embeddings = teacher([found.texts[row] for row in rows])
    for row, embedding in zip(rows, embeddings, strict=True):
        scores = [float((teacher(concept.phrases) @ embedding).topk(PHRASES_HEARD).values.mean()) for concept in concepts]
        assert scores[int(found.neighbours[row, 0])] == pytest.approx(max(scores), abs=1e-5)
