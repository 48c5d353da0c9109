"""Finished pairs on the training device: their latents, the order in which they are renewed, and how often each is drawn."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from embedded import pair_pool
from embedded.concepts import Concept
from embedded.drawing_room import DrawingRoom, Layout
from embedded.finishing import Finisher, signed
from embedded.networks import LATENTS
from embedded.pair_pool import RARE, PairPool
from embedded.pairs import PROMPTS, DrawnPairs, PairArtist
from embedded.recipes import Recipe
from embedded.scale import Scale
from embedded.tokenizer import MAX_TOKENS

CPU = torch.device("cpu")
MakePool = Callable[..., PairPool]


class PlantedRoom:
    """Hands over given batches, then none."""

    def __init__(self, batches: list[DrawnPairs], layout: Layout) -> None:
        self.batches, self.layout = list(batches), layout

    def next(self, *, wait: bool) -> DrawnPairs | None:
        return self.batches.pop(0) if self.batches else None


class PlantedEncoder:
    """Latents of closed form: the mean of the first colour in each cell, in all channels."""

    def encoder(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(pictures[:, :1], 8).expand(-1, LATENTS, -1, -1)


def numbered(recipes: list[Recipe], *, first: int, side: int = 16) -> DrawnPairs:
    """Pairs whose contents are all of the grey of their number and whose prompts are their number, from `first`."""
    count = len(recipes)
    numbers = np.arange(first, first + count)
    contents = np.broadcast_to(numbers[:, None, None, None], (count, side, side, 3)).astype(np.uint8)
    ids = np.stack([1000 * way + np.repeat(numbers[:, None], MAX_TOKENS, axis=1) for way in range(PROMPTS)], axis=1).astype(np.int16)
    noise = np.zeros((count, LATENTS, side // 8, side // 8), np.float16) + numbers[:, None, None, None].astype(np.float16)
    return DrawnPairs(contents, 255 - contents, np.array([recipe.row() for recipe in recipes]), ids, noise)


def planted_pool(batches: list[DrawnPairs], concepts: list[Concept], teacher: Any, *, capacity: int) -> PairPool:
    layout = Layout(count=len(batches[0].recipes), side=batches[0].contents.shape[1])
    room, encoder = PlantedRoom(batches, layout), PlantedEncoder()
    return PairPool(room, Finisher(concepts, teacher, CPU), capacity=capacity, autoencoder=encoder, seed=3)  # type: ignore[arg-type]


def held(pool: PairPool) -> list[int]:
    """The numbers of the pairs that a pool holds, in the order of its rows."""
    return [int(value) for value in pool._contents[: pool.count, 0, 0, 0]]


def test_new_pairs_take_the_places_of_the_oldest(toy_concepts: list[Concept], planted_teacher: Any) -> None:
    batches = [numbered([Recipe(0)] * 4, first=first) for first in (0, 4, 8, 12)]
    pool = planted_pool(batches, toy_concepts, planted_teacher, capacity=10)
    wanted = [[0, 1, 2, 3], [0, 1, 2, 3, 4, 5, 6, 7], [10, 11, 2, 3, 4, 5, 6, 7, 8, 9], [10, 11, 12, 13, 14, 15, 6, 7, 8, 9]]
    for row in wanted:
        assert pool.renew(wait=False) and held(pool) == row and pool.count == len(row)
    assert not pool.renew(wait=False) and held(pool) == wanted[-1]


def test_a_batch_keeps_together_what_belongs_together(toy_concepts: list[Concept], planted_teacher: Any) -> None:
    pool = planted_pool([numbered([Recipe(0)] * 4 + [Recipe(0, noise_seed=9)], first=20)], toy_concepts, planted_teacher, capacity=8)
    pool.renew(wait=True)
    batch = pool.batch(200)
    numbers = batch.contents[:, 0, 0, 0].long()
    assert set(numbers.tolist()) == {20, 21, 22, 23, 24}
    assert torch.equal(batch.targets[:, 5, 5, 1].long(), 255 - numbers) and torch.equal(batch.painted, numbers == 24)
    shade = (numbers / 127.5 - 1)[:, None, None, None].expand(-1, LATENTS, 2, 2)
    torch.testing.assert_close(batch.content, torch.where(numbers[:, None, None, None] == 24, 0.0, shade), atol=1e-3, rtol=0)
    torch.testing.assert_close(batch.target, -shade, atol=1e-3, rtol=0)
    assert batch.alone.dtype == torch.int64 and torch.equal(batch.alone, torch.where(batch.painted, -1, 0))
    assert torch.equal(batch.noise, numbers[:, None, None, None].float().expand(-1, LATENTS, 2, 2))
    ways = (batch.ids - numbers[:, None]) / 1000
    assert batch.ids.dtype == torch.int64 and bool((ways == ways[:, :1]).all()) and set(ways[:, 0].tolist()) == {0.0, 1.0}


def test_tags_and_mixtures_are_drawn_more_rarely(toy_concepts: list[Concept], planted_teacher: Any) -> None:
    concepts = [*toy_concepts, Concept("tags/oil, portrait", ["oil, portrait"], vector=toy_concepts[-1].vector)]
    tags = len(concepts) - 1
    recipes = [
        Recipe(0),
        Recipe(1),
        Recipe(tags - 1),
        Recipe(tags),
        Recipe(0, second=1),
        Recipe(tags, second=2),
        Recipe(0, tone=1),
        Recipe(2),
    ]
    pool = planted_pool([numbered(recipes, first=0)], concepts, planted_teacher, capacity=8)
    pool.renew(wait=True)
    counts = np.bincount(pool.batch(20_000).contents[:, 0, 0, 0].numpy(), minlength=8) / 20_000
    weights = np.array([1, 1, 1, RARE, RARE, RARE, 1, 1])
    np.testing.assert_allclose(counts, weights / weights.sum(), atol=0.012)  # about four standard deviations
    batch = pool.batch(500)
    alone = torch.tensor([0, 1, tags - 1, -1, -1, -1, -1, 2])
    assert torch.equal(batch.alone, alone[batch.contents[:, 0, 0, 0].long()]), "one look or style, on a photo as it is"


def test_pictures_are_one_photo_to_four_looks(toy_concepts: list[Concept], planted_teacher: Any) -> None:
    pool = planted_pool([numbered([Recipe(0)] * 8, first=0)], toy_concepts, planted_teacher, capacity=8)
    pool.renew(wait=True)
    made = pool.pictures(20)
    assert made.shape == (20, 3, 16, 16) and made.dtype == torch.float32
    assert bool((made[:4] < -0.9).all()) and bool((made[4:] > 0.9).all())
    whole = ((made[:, 0, 0, 0] + 1) * 127.5).round()
    assert set(whole[:4].tolist()) <= set(range(8)) and set(whole[4:].tolist()) <= {255 - number for number in range(8)}


def test_latents_are_the_encoders_and_pictures_without_a_photo_have_none(
    make_pool: MakePool,
    autoencoder: AutoencoderTiny,
    make_artist: Callable[[], PairArtist],
    tiny_scale: Scale,
    toy_concepts: list[Concept],
    planted_teacher: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pair_pool, "ENCODED_AT_ONCE", 2)
    pool = make_pool(autoencoder, batches=4, seed=2)
    with DrawingRoom(make_artist, layout=Layout(count=tiny_scale.drawn, side=tiny_scale.side), processes=0, seed=2) as room:
        batches = [room.next(wait=True) for _ in range(4)]
    drawn = [batch for batch in batches if batch is not None]
    finisher = Finisher(toy_concepts, planted_teacher, CPU)
    contents, targets = torch.from_numpy(np.concatenate([batch.contents for batch in drawn])), torch.cat([finisher(each) for each in drawn])
    painted = torch.from_numpy(np.concatenate([batch.recipes[:, 5] >= 0 for batch in drawn]))
    assert bool(painted.any()) and not bool(painted.all()) and pool.count == len(painted) == 20
    assert torch.equal(pool._contents, contents) and torch.equal(pool._targets, targets) and torch.equal(pool._painted, painted)
    with torch.no_grad():
        wanted = autoencoder.encode(signed(contents)).latents, autoencoder.encode(signed(targets)).latents
    near = 0.03 * float(wanted[1].abs().max())  # the pool encodes in bfloat16, on most machines
    torch.testing.assert_close(pool._target.float(), wanted[1], atol=near, rtol=0)
    torch.testing.assert_close(pool._content[~painted].float(), wanted[0][~painted], atol=near, rtol=0)
    assert not pool._content[painted].any() and float(wanted[0].abs().max()) > 10 * near
    noise = torch.from_numpy(np.concatenate([batch.noise for batch in drawn]))
    assert torch.equal(pool._noise, noise) and bool(noise[painted].flatten(1).any(dim=1).all()) and not noise[~painted].any()
    batch = pool.batch(12)
    assert batch.content.shape == batch.target.shape == batch.noise.shape == (12, LATENTS, 8, 8)
    assert {value.dtype for value in (batch.content, batch.target, batch.noise)} == {torch.float32}
    for i, target in enumerate(batch.targets):
        row = int((pool._targets == target).flatten(1).all(dim=1).nonzero()[0])
        assert torch.equal(batch.target[i], pool._target[row].float()) and torch.equal(batch.noise[i], pool._noise[row].float())
        assert torch.equal(batch.content[i], pool._content[row].float()) and batch.painted[i] == pool._painted[row]


def test_the_same_seed_draws_the_same_batches_and_pictures(make_pool: MakePool, autoencoder: AutoencoderTiny) -> None:
    one, other, third = (make_pool(autoencoder, batches=1, seed=seed) for seed in (4, 4, 5))
    for _ in range(2):
        assert torch.equal(first := one.batch(6).ids, other.batch(6).ids) and torch.equal(one.pictures(5), other.pictures(5))
    assert not torch.equal(first, third.batch(6).ids)
    assert make_pool(None, batches=1).pictures(5).shape == (5, 3, 64, 64), "pictures need no latents"


def test_colour_directions_recover_a_planted_linear_map(make_pool: MakePool, autoencoder: AutoencoderTiny) -> None:
    """Latents that are a linear function of the mean colour of their 8 x 8 pixels, and noise of no colour."""
    pool = make_pool(autoencoder)
    generator = np.random.default_rng(2)
    planted = generator.normal(size=(LATENTS, 3))
    cells = generator.integers(0, 256, size=(pool.count, 8, 8, 3))
    fine = generator.integers(-1, 2, size=(pool.count, 8, 8, 8, 8, 3))  # whose mean over a cell is taken off again
    pictures = np.clip(cells[:, :, None, :, None] + fine.transpose(0, 1, 3, 2, 4, 5), 0, 255).reshape(pool.count, 64, 64, 3)
    means = pictures.reshape(pool.count, 8, 8, 8, 8, 3).mean(axis=(2, 4)) / 127.5 - 1
    latents = np.einsum("ck,nhwk->nchw", planted, means) + generator.normal(size=LATENTS)[:, None, None]
    latents += 0.01 * generator.normal(size=latents.shape)
    pool._targets[:] = torch.from_numpy(pictures.astype(np.uint8))
    pool._target[:] = torch.from_numpy(latents.astype(np.float16))
    for count in (256, 9):
        found = pool.colour_directions(pictures=count)
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found.numpy(), planted, atol=0.01)
