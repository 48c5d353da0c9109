"""Training of the autoencoder on a tiny pool: the loss falls, and a run that is taken up again goes on where it was."""

import copy
import csv
from collections.abc import Callable

import numpy as np
import pytest
import torch
from embedded import autoencoder as rebuilding
from embedded.autoencoder import AutoencoderTraining, latent_spread, load_autoencoder
from embedded.pair_pool import PairPool
from torch import nn

MakePool = Callable[..., PairPool]


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_latents_of_unit_spread_lose_nothing_and_others_by_their_mean_and_their_spread() -> None:
    latent = torch.randn(6, 3, 5, 4, generator=torch.Generator().manual_seed(1)).double()
    latent = (latent - latent.mean(dim=(0, 2, 3), keepdim=True)) / latent.std(dim=(0, 2, 3), keepdim=True)
    assert float(latent_spread(latent)) == pytest.approx(0, abs=1e-12)
    factors, shifts = np.array([3.0, 0.5, 1.0]), np.array([0.0, 2.0, -1.0])
    changed = latent * torch.tensor(factors)[:, None, None] + torch.tensor(shifts)[:, None, None]
    assert float(latent_spread(changed)) == pytest.approx(np.mean(shifts**2) + np.mean((factors - 1) ** 2))


def test_a_few_steps_of_the_autoencoder_lower_its_loss(begun_autoencoder: Callable[[], AutoencoderTraining], make_pool: MakePool) -> None:
    training, pictures = begun_autoencoder(), make_pool(None).pictures(4)
    begun, values = copy.deepcopy(training.network), []
    for _ in range(18):
        values.append({name: float(value.detach()) for name, value in training.one_step(pictures, adversarial=False).items()})
        training.step += 1
    for name in ("pixels", "places", "spread"):
        assert values[-1][name] < 0.9 * values[0][name], name
    assert values[-1]["psnr"] > values[0]["psnr"] + 1
    weights = zip(begun.parameters(), training.average.parameters(), training.network.parameters(), strict=True)
    assert all(not torch.equal(mean, now) for _, mean, now in weights) and not same(begun, training.average)


class Scaled(nn.Module):
    """The same picture, brighter by `more`."""

    def __init__(self, factor: float, more: float) -> None:
        super().__init__()
        self.factor, self.more = nn.Parameter(torch.tensor(factor)), more

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x + self.more


def test_a_perfect_autoencoder_is_steady_and_has_the_psnr_of_its_error(
    begun_autoencoder: Callable[[], AutoencoderTraining], make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuilding, "GRAIN", 0.0)
    monkeypatch.setattr(rebuilding, "NOISE", 0.0)
    monkeypatch.setattr(rebuilding, "update_average", lambda *_, **__: None)
    training, pictures = begun_autoencoder(), make_pool(None).pictures(4).clamp(-0.8, 0.8)
    training.network.encoder, training.network.decoder = Scaled(1.0, 0.0), Scaled(1.0, 0.1)
    values = training.one_step(pictures, adversarial=False)
    assert values["psnr"].item() == pytest.approx(-10 * np.log10(0.1**2 / 4), abs=0.02)
    assert values["pixels"].item() == pytest.approx(2 * 0.1, rel=1e-3)
    assert values["steady"].item() < 0.12 and values["steady"].item() == pytest.approx(0, abs=0.12)


@pytest.mark.usefixtures("counted_time")
def test_the_autoencoder_goes_on_from_its_checkpoint_exactly(
    begun_autoencoder: Callable[[], AutoencoderTraining], make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuilding, "NOTE_STEPS", 1)
    monkeypatch.setattr(rebuilding, "CRITICS_FROM", 0.3)
    pool, first = make_pool(None), begun_autoencoder()
    first.run(pool, minutes=0.45)
    again = begun_autoencoder()
    assert again.step == first.step >= 3 and again.seconds >= 26
    assert same(load_autoencoder(first.path), first.average) and not load_autoencoder(first.path).training
    assert same(again.network, first.network) and same(again.average, first.average)
    pictures = pool.pictures(4)
    for each in (first, again):  # the critics and all optimizers know the same, too
        each.generator.manual_seed(9)
        each.one_step(pictures, adversarial=True)
    assert same(first.network, again.network) and same(first.average, again.average)
    assert same(first.critics.critics, again.critics.critics)
    again = begun_autoencoder()
    again.run(pool, minutes=0.8)
    rows = list(csv.DictReader((first.work / "autoencoder.csv").open(encoding="utf-8")))
    assert again.step > first.step and [int(row["step"]) for row in rows] == list(range(1, again.step + 1))
    assert all(np.isfinite(float(value)) for row in rows for value in row.values())
    assert not list(first.work.glob("*.partial"))
