"""Whether a style can be told from all others: the loss against numpy and against the judge's own measure, and who takes part."""

import numpy as np
import pytest
import torch
from embedded.style_contrast import TEMPERATURE, StyleContrast, joined_statistics
from embedded.style_distance import SMALL
from judging.style_space import StyleSpace, ranks

CHANNELS = (3, 2)
LENGTHS = [6, 6, 4, 3]
SHOWN = torch.tensor([0, 2, 5])


def features(count: int, *, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(count, channels, 4, 4, generator=generator) * torch.rand(count, 1, 1, 1, generator=generator) for channels in CHANNELS
    ]


@pytest.fixture
def samples() -> torch.Tensor:
    """Statistics of four pictures of each of three styles."""
    return joined_statistics(features(12, seed=1)).unflatten(0, (3, 4))


def by_means(samples: torch.Tensor, shown: torch.Tensor, *, concepts: int) -> StyleContrast:
    means = samples.mean(dim=1)
    return StyleContrast(means, shown, usual=means.mean(dim=0), pictures=samples.flatten(0, 1), lengths=LENGTHS, concepts=concepts)


def test_the_loss_is_the_cross_entropy_of_cosines_in_groups_of_equal_weight(samples: torch.Tensor) -> None:
    contrast, asked = by_means(samples, SHOWN, concepts=7), joined_statistics(features(5, seed=2))
    numbers = torch.tensor([5, -1, 0, 1, 2])  # of nothing alone, and of one whose pictures are not among them, nothing is asked
    loss, told = contrast(asked, numbers)
    known = samples.double().numpy()
    scale = np.empty(sum(LENGTHS))
    for end, length in zip(np.cumsum(LENGTHS), LENGTHS, strict=True):
        part = known[..., end - length : end].reshape(-1, length)
        scale[end - length : end] = 1 / ((part.std(axis=0, ddof=1) + SMALL * part.std(ddof=1)) * np.sqrt(length))
    means = known.mean(axis=1)

    def direction(rows: np.ndarray) -> np.ndarray:
        placed = (rows - means.mean(axis=0)) * scale
        return np.asarray(placed / np.linalg.norm(placed, axis=1, keepdims=True))

    logits = direction(asked.double().numpy()) @ direction(means).T / TEMPERATURE
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows, own = [0, 2, 4], [2, 0, 1]
    assert float(loss) == pytest.approx(-np.log(shares[rows, own]).mean(), rel=1e-3)
    assert float(told) == pytest.approx(np.mean(shares[rows].argmax(axis=1) == own))


def test_pictures_of_the_means_are_told_and_those_of_nothing_cost_nothing(samples: torch.Tensor) -> None:
    made = samples.flatten(0, 1)
    contrast = by_means(made[:, None], torch.arange(12), concepts=12)
    loss, told = contrast(made, torch.arange(12))
    assert float(told) == 1 and float(loss) < 0.05
    wrong, none = contrast(made, torch.arange(12).roll(1))
    assert float(none) == 0 and float(wrong) > 2
    asked = [feature.requires_grad_(True) for feature in features(4, seed=3)]
    nothing, none = contrast(joined_statistics(asked), torch.full((4,), -1))
    nothing.backward()
    assert nothing.item() == 0 == float(none) and all(not feature.grad.any() for feature in asked if feature.grad is not None)


def test_examples_tell_pictures_as_the_judge_tells_them() -> None:
    """The judge's space is written apart from this one: both kinds less their own usual one, scaled by the examples' spread."""
    generator = torch.Generator().manual_seed(7)
    examples = 1 + torch.randn(9, sum(LENGTHS), generator=generator)
    taught = examples + 5 + 0.6 * torch.randn(9, sum(LENGTHS), generator=generator)
    shown = torch.arange(9).flip(0)
    contrast = StyleContrast(examples.flip(0), shown, usual=taught.mean(dim=0), pictures=examples, lengths=LENGTHS, concepts=9)
    space = StyleSpace.of(examples.numpy(), taught[:, None].numpy(), LENGTHS)
    made = taught + 1.4 * torch.randn(9, sum(LENGTHS), generator=generator)
    expected = ranks(space.picture(made.numpy())[:, None], space.example(examples.numpy()), range(9))[:, 0] == 0
    found = [float(contrast(made[n : n + 1], torch.tensor([n]))[1]) for n in range(9)]
    assert found == expected.astype(float).tolist() and 0 < sum(found) < 9
