"""How far apart styles are: the statistics against numpy, the running spread against its closed form, and that style is what counts."""

import numpy as np
import pytest
import torch
from embedded.style_distance import SMALL, StyleDistance, style_statistics

CHANNELS = [3, 5]


def features(count: int, *, seed: int, sides: tuple[int, int] = (8, 4)) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(count, channels, side, side, generator=generator) for channels, side in zip(CHANNELS, sides, strict=True)]
    return [each * (1 + torch.rand(count, each.shape[1], 1, 1, generator=generator)) for each in made]


def test_statistics_are_means_deviations_and_signed_roots_of_covariances() -> None:
    feature = features(2, seed=1)[1].double()
    channels, roots = style_statistics(feature)
    for row, made, root in zip(feature.flatten(2).numpy(), channels, roots, strict=True):
        np.testing.assert_allclose(made[:5], row.mean(axis=1), atol=1e-12)
        np.testing.assert_allclose(made[5:], row.std(axis=1), rtol=1e-9)
        wanted = np.cov(row, bias=True)[np.triu_indices(5)]
        np.testing.assert_allclose(root, np.sign(wanted) * np.sqrt(np.abs(wanted)), atol=0.012)  # straight near 0


def test_each_number_is_measured_by_its_running_spread() -> None:
    distance, batches = StyleDistance(CHANNELS), [features(40, seed=seed) for seed in (1, 2, 3)]
    for wanted in batches[:2]:
        distance(wanted, wanted)
    made = features(40, seed=9)
    found = float(distance(made, batches[2]))
    weights = 0.01 * np.array([0.99**2, 0.99, 1.0])
    weights /= weights.sum()
    total = 0.0
    for number in range(2):
        for group in range(2):
            rows = [style_statistics(batch[number])[group].double().numpy() for batch in batches]
            mean = sum(w * row.mean(axis=0) for w, row in zip(weights, rows, strict=True))
            square = sum(w * (row**2).mean(axis=0) for w, row in zip(weights, rows, strict=True))
            variance = square - mean**2
            spread = np.sqrt(variance) + SMALL * np.sqrt(variance.mean() + mean.var(ddof=1))
            apart = (style_statistics(made[number])[group].double().numpy() - rows[2]) / spread
            total += float((apart**2).mean())
    assert found == pytest.approx(total, rel=1e-3)


def test_the_same_texture_elsewhere_is_no_distance_and_a_strange_one_is_about_two_a_group() -> None:
    """Two independent pictures of one distribution of styles: twice the variance, in units of the spread."""
    distance = StyleDistance(CHANNELS)
    for seed in range(30):
        wanted = features(40, seed=seed)
        distance(wanted, wanted)
    turned = [feature.flip(3).roll(3, dims=2) for feature in wanted]
    assert float(distance(turned, wanted)) == pytest.approx(0, abs=1e-6)
    strange = float(distance(features(400, seed=77), features(400, seed=78)))
    assert 1.3 * 4 < strange < 2.2 * 4


def test_the_way_back_is_finite_at_flat_features_and_goes_to_the_made_ones_alone() -> None:
    flat = [torch.zeros(2, channels, 4, 4, requires_grad=True) for channels in CHANNELS]
    wanted = [feature.requires_grad_(True) for feature in features(2, seed=1, sides=(4, 4))]
    StyleDistance(CHANNELS)(flat, wanted).backward()
    assert all(feature.grad is not None and bool(torch.isfinite(feature.grad).all()) for feature in flat)
    assert all(feature.grad is None for feature in wanted)


def test_the_spread_goes_on_from_its_state() -> None:
    one, other = StyleDistance(CHANNELS), StyleDistance(CHANNELS)
    wanted, made = features(6, seed=1), features(6, seed=2)
    one(made, wanted)
    other.load_state_dict(one.state_dict())
    assert float(one(made, wanted)) == float(other(made, wanted)) != float(StyleDistance(CHANNELS)(made, features(6, seed=3)))
