"""Whether a style can be told from all others: the loss against numpy, who takes part, and what the means are taken over."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from embedded.concepts import Concept
from embedded.finishing import Finisher, signed
from embedded.pairs import PairArtist
from embedded.perceptual import PerceptualLoss
from embedded.recipes import EachInTurn
from embedded.style_contrast import ROUNDS, TEMPERATURE, StyleContrast, wanted_styles
from embedded.style_distance import SMALL, style_statistics

CPU = torch.device("cpu")
CHANNELS = (3, 2)
LENGTHS = [6, 6, 4, 3]
SHOWN = torch.tensor([0, 2, 5])


def features(count: int, *, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(count, channels, 4, 4, generator=generator) * torch.rand(count, 1, 1, 1, generator=generator) for channels in CHANNELS
    ]


def statistics(made: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([group for feature in made for group in style_statistics(feature)], dim=1)


@pytest.fixture
def samples() -> torch.Tensor:
    return statistics(features(12, seed=1)).unflatten(0, (3, 4))


def test_the_loss_is_the_cross_entropy_of_cosines_in_groups_of_equal_weight(samples: torch.Tensor) -> None:
    contrast, made = StyleContrast(samples, SHOWN, LENGTHS, concepts=7), features(5, seed=2)
    numbers = torch.tensor([5, -1, 0, 1, 2])  # of nothing alone, and of one whose pictures are not among them, nothing is asked
    loss, told = contrast(made, numbers)
    known, asked = samples.double().numpy(), statistics(made).double().numpy()
    scale = np.empty(sum(LENGTHS))
    for end, length in zip(np.cumsum(LENGTHS), LENGTHS, strict=True):
        part = known[..., end - length : end].reshape(-1, length)
        scale[end - length : end] = 1 / ((part.std(axis=0, ddof=1) + SMALL * part.std(ddof=1)) * np.sqrt(length))
    means = known.mean(axis=1)

    def direction(rows: np.ndarray) -> np.ndarray:
        placed = (rows - means.mean(axis=0)) * scale
        return np.asarray(placed / np.linalg.norm(placed, axis=1, keepdims=True))

    logits = direction(asked) @ direction(means).T / TEMPERATURE
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows, own = [0, 2, 4], [2, 0, 1]
    assert float(loss) == pytest.approx(-np.log(shares[rows, own]).mean(), rel=1e-3)
    assert float(told) == pytest.approx(np.mean(shares[rows].argmax(axis=1) == own))


def test_pictures_of_the_means_are_told_and_those_of_nothing_cost_nothing(samples: torch.Tensor) -> None:
    made = features(12, seed=1)
    contrast = StyleContrast(statistics(made)[:, None], torch.arange(12), LENGTHS, concepts=12)
    loss, told = contrast(made, torch.arange(12))
    assert float(told) == 1 and float(loss) < 0.05
    wrong, none = contrast(made, torch.arange(12).roll(1))
    assert float(none) == 0 and float(wrong) > 2
    asked = [feature.requires_grad_(True) for feature in features(4, seed=3)]
    nothing, none = contrast(asked, torch.full((4,), -1))
    nothing.backward()
    assert nothing.item() == 0 == float(none) and all(not feature.grad.any() for feature in asked if feature.grad is not None)


def test_the_wanted_styles_are_looked_at_once_and_kept(
    tmp_path: Path, few_artist: Callable[[], PairArtist], few_concepts: list[Concept], planted_teacher: Any
) -> None:
    finisher, eye, path = Finisher(few_concepts, planted_teacher, CPU), PerceptualLoss(), tmp_path / "styles.pt"
    contrast = wanted_styles(path, few_artist(), finisher, eye, seed=1)
    samples = torch.load(path, weights_only=True)["samples"]
    assert samples.shape[:2] == (3, ROUNDS) and contrast.rows.tolist() == [0, 1, 2, -1], "tags are no style of their own"
    seen = sum(planted_teacher.counts)
    again = wanted_styles(path, few_artist(), finisher, eye, seed=1)
    assert torch.equal(again.centres, contrast.centres) and sum(planted_teacher.counts) == seen
    artist = few_artist()
    artist.book = EachInTurn(few_concepts)
    pairs = artist.drawn(9, np.random.default_rng(7))
    with torch.no_grad():
        _, told = contrast(eye.features(signed(finisher(pairs))), torch.from_numpy(pairs.recipes[:, 0]))
    assert float(told) > 0.5, "most wanted pictures of other photos are nearest to their own style, of three"
