"""The tensors of one step of the denoiser: where it starts, what is wanted, and what it is told, against the closed form."""

import numpy as np
import pytest
import torch
from embedded import flow
from embedded.denoiser_batch import JITTER, UNPROMPTED, Batch, random_windows, wide, windows
from embedded.networks import LATENTS
from embedded.pair_pool import PairBatch

COUNT, SIDE = 600, 16
EMPTY = torch.full((1, 32, 4), 7.0)
DIRECTIONS = torch.randn(LATENTS, 3, generator=torch.Generator().manual_seed(8))


@pytest.fixture(scope="module")
def pairs() -> PairBatch:
    generator = torch.Generator().manual_seed(2)
    pictures = torch.randint(0, 256, (2, COUNT, SIDE, SIDE, 3), generator=generator, dtype=torch.uint8)
    latents = torch.randn(3, COUNT, LATENTS, 8, 8, generator=generator)
    painted = torch.rand(COUNT, generator=generator) < 0.2
    content = torch.where(wide(painted), 0.0, latents[0])
    ids = torch.arange(COUNT)[:, None].expand(-1, 32) + 100
    return PairBatch(pictures[0], pictures[1], content, latents[1], latents[2], ids, torch.full((COUNT,), -1), painted)


def texts_of(pairs: PairBatch) -> torch.Tensor:
    return pairs.ids[:, :, None].float().expand(-1, -1, 4)


@pytest.fixture(scope="module")
def batch(pairs: PairBatch) -> Batch:
    return Batch(pairs, texts_of(pairs), EMPTY, DIRECTIONS, torch.Generator().manual_seed(4))


@pytest.fixture(scope="module")
def plain(batch: Batch) -> torch.Tensor:
    return (batch.texts == EMPTY).all(dim=(1, 2))


def noise_of(batch: Batch, target: torch.Tensor) -> torch.Tensor:
    """The noise in a start, by the velocity that leads to what is wanted: it is noise - target for every share and level."""
    return flow.velocity(batch.x_s.double(), batch.wanted.double(), batch.s.double()) + target


def test_the_first_half_stands_at_full_noise_and_wants_the_whole_target(batch: Batch, pairs: PairBatch, plain: torch.Tensor) -> None:
    assert bool((batch.s[: COUNT // 2] == 1).all()) and bool((batch.s[COUNT // 2 :] < 1).all())
    target = torch.where(wide(plain), pairs.content, pairs.target) + batch.light
    torch.testing.assert_close(batch.wanted[: COUNT // 2], target[: COUNT // 2])


def test_an_empty_prompt_keeps_the_photo_and_has_no_light(batch: Batch, pairs: PairBatch, plain: torch.Tensor) -> None:
    assert float(plain[~pairs.painted].float().mean()) == pytest.approx(UNPROMPTED, abs=0.055)
    assert not (plain & pairs.painted).any()
    torch.testing.assert_close(batch.wanted[plain], pairs.content[plain], atol=1e-5, rtol=0)
    assert torch.equal(batch.pictures[plain], pairs.contents[plain]) and not batch.light[plain].any()
    assert torch.equal(batch.pictures[~plain], pairs.targets[~plain]) and torch.equal(batch.texts[~plain], texts_of(pairs)[~plain])


def test_a_texture_starts_from_its_own_noise_without_a_photo_or_light(batch: Batch, pairs: PairBatch) -> None:
    painted, half = pairs.painted, torch.arange(COUNT) < COUNT // 2
    assert torch.equal(batch.x_s[painted & half], pairs.noise[painted & half])
    wanted = flow.noisy(pairs.target, pairs.noise, batch.s)
    torch.testing.assert_close(batch.x_s[painted], wanted[painted], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(batch.wanted[painted], pairs.target[painted])
    assert not batch.content[painted].any() and not batch.light[painted].any()


def test_the_light_is_what_the_noise_of_the_start_means(batch: Batch, pairs: PairBatch, plain: torch.Tensor) -> None:
    target = torch.where(wide(plain), pairs.content, pairs.target).double() + batch.light
    noise = noise_of(batch, target)
    prompted = ~(plain | pairs.painted)
    assert noise[~pairs.painted].std().item() == pytest.approx(1, abs=0.01) and abs(noise[~pairs.painted].mean().item()) < 0.01
    light = flow.seed_light(noise.float(), DIRECTIONS)
    torch.testing.assert_close(batch.light[prompted], light[prompted], atol=2e-4, rtol=0)


def test_what_is_wanted_lies_between_photo_and_target_as_far_as_share_and_level_say(
    batch: Batch, pairs: PairBatch, plain: torch.Tensor
) -> None:
    prompted = ~(plain | pairs.painted)
    way = (pairs.target + batch.light - pairs.content).flatten(1)
    gone = (batch.wanted - pairs.content).flatten(1)
    progress = (gone * way).sum(dim=1) / way.square().sum(dim=1)
    torch.testing.assert_close(gone[prompted], (progress[:, None] * way)[prompted], atol=1e-4, rtol=0)
    half, third = COUNT // 2, COUNT // 2 + COUNT // 6
    first, finished = torch.arange(COUNT) < half, (torch.arange(COUNT) >= half) & (torch.arange(COUNT) < third)
    np.testing.assert_allclose(progress[prompted & (first | finished)], 1, atol=1e-4)
    rest = prompted & ~first & ~finished
    assert bool((progress[rest] > batch.s[rest] - 1e-4).all()) and bool((progress[rest] < 1).all())
    from_photo = (progress - batch.s).abs() < 1e-4  # the change equals the strength
    assert float(from_photo[rest].float().mean()) == pytest.approx(0.5, abs=0.12)


def test_the_grain_on_the_photo_is_of_the_size_it_says_and_nothing_else_has_any(batch: Batch, pairs: PairBatch) -> None:
    grain = (batch.content - pairs.content)[~pairs.painted].flatten(1)
    spreads = grain.std(dim=1)
    assert float(spreads.max()) < 1.15 * JITTER and float(spreads.min()) < 0.1 * JITTER
    assert spreads.mean().item() == pytest.approx(JITTER / 2, rel=0.1)


def test_the_same_generator_makes_the_same_batch(batch: Batch, pairs: PairBatch) -> None:
    again = Batch(pairs, texts_of(pairs), EMPTY, DIRECTIONS, torch.Generator().manual_seed(4))
    for name in ("texts", "pictures", "light", "s", "wanted", "x_s", "content"):
        assert torch.equal(getattr(again, name), getattr(batch, name)), name


def test_windows_are_the_slices_at_their_corners_and_pass_gradients_there() -> None:
    pictures = torch.randn(3, 2, 6, 7, generator=torch.Generator().manual_seed(1)).requires_grad_(True)
    made = windows(pictures, torch.tensor([[0, 0], [2, 3], [1, 2]]), 4)
    wanted = torch.stack([pictures[0, :, :4, :4], pictures[1, :, 2:6, 3:7], pictures[2, :, 1:5, 2:6]])
    assert torch.equal(made, wanted)
    made[1].sum().backward()
    assert pictures.grad is not None and pictures.grad.sum() == 2 * 16 and pictures.grad[1, :, 2:6, 3:7].min() == 1


def test_random_windows_of_latents_and_of_pictures_lie_at_the_same_places() -> None:
    latents = torch.arange(5.0 * 64).reshape(5, 1, 8, 8)
    pictures = torch.nn.functional.interpolate(latents, scale_factor=8).remainder(256).byte().permute(0, 2, 3, 1)
    generator = torch.Generator().manual_seed(1)
    found = [random_windows([latents, pictures], 64, 32, generator) for _ in range(2)]
    for some, shown in found:
        assert some.shape == (5, 1, 4, 4) and torch.equal(shown[:, ::8, ::8, 0], some[:, 0].remainder(256).byte())
    assert not torch.equal(found[0][0], found[1][0]), "always the same window"
    whole = random_windows([latents, pictures], 64, 64, generator)
    assert torch.equal(whole[0], latents) and torch.equal(whole[1], pictures)
