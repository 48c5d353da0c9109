"""Pairs as far as drawing goes: clouds from noise, the same seed the same pairs, and what the recipes say on both sides."""

from collections.abc import Callable
from dataclasses import fields

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from embedded.concepts import Concept
from embedded.networks import LATENTS
from embedded.pairs import PROMPTS, DrawnPairs, PairArtist, clouds, drawn_first, seeded_noise
from embedded.recipes import Recipe
from embedded.tokenizer import MAX_TOKENS
from transformers import CLIPTokenizer

COUNT = 60


def equal(one: DrawnPairs, other: DrawnPairs) -> bool:
    return all(np.array_equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(DrawnPairs))


@pytest.fixture(scope="module")
def artist(make_artist: Callable[[], PairArtist]) -> PairArtist:
    return make_artist()


@pytest.fixture(scope="module")
def pairs(artist: PairArtist) -> DrawnPairs:
    return artist.drawn(COUNT, np.random.default_rng(5))


def test_clouds_come_from_the_noise_alone() -> None:
    noise = seeded_noise(5, side=128)
    first = clouds(noise)
    torch.manual_seed(99)
    np.random.seed(99)
    assert noise.shape == (LATENTS, 16, 16)
    assert first.shape == (128, 128, 3) and np.array_equal(first, clouds(noise.clone()))
    assert torch.equal(noise, seeded_noise(5, side=128))
    assert np.abs(first.astype(float) - clouds(seeded_noise(6, side=128))).mean() > 20


def test_without_noise_clouds_are_an_even_grey() -> None:
    """sin(0) = 0: colour 1/2, light 0.35 + 0.65 / 2."""
    assert np.abs(clouds(torch.zeros(LATENTS, 4, 4)).astype(float) - 255 * 0.5 * 0.675).max() <= 1


def test_colours_of_clouds_are_the_first_three_channels_their_light_the_fourth_and_the_others_nothing() -> None:
    noise = seeded_noise(3, side=64)
    before = clouds(noise).astype(int)
    for channel in range(LATENTS):
        changed = noise.clone()
        changed[channel] += 0.3
        moves = np.abs(clouds(changed) - before).mean(axis=(0, 1))
        wanted = [channel == colour or channel == 3 for colour in range(3)]
        assert (moves > 1).tolist() == wanted, channel


def test_a_small_step_of_the_noise_moves_the_clouds_no_more_than_their_slopes_allow() -> None:
    noise = seeded_noise(5, side=128)
    aside = torch.randn(noise.shape, generator=torch.Generator().manual_seed(8)).clamp(-1, 1)
    step = 0.004
    change = np.abs(clouds(noise + step * aside).astype(float) - clouds(noise))
    # cubic weights sum to at most 1.375 an axis in size, a blur adds nothing; then the slopes of both sines, and rounding
    assert change.max() <= 255 * (0.5 * 1.5 + 0.65 * 0.5 * 2.5) * step * 1.375**2 / 0.24 + 1
    assert 0 < change.mean() < 2


def test_the_noise_of_clouds_has_unit_spread_after_its_blur() -> None:
    """Blurring white noise of cells by s cells leaves 1 / (2 sqrt(pi) s), here 0.25; the clouds divide by 0.24."""
    noises = [seeded_noise(seed, side=256)[0].numpy() for seed in range(12)]
    soft = [cv2.GaussianBlur(cv2.resize(f, (256, 256), interpolation=cv2.INTER_CUBIC), (0, 0), 9.0)[48:-48, 48:-48] for f in noises]
    assert np.std(soft) == pytest.approx(1 / (2 * np.sqrt(np.pi) * 9 / 8), abs=0.02)
    assert np.std(soft) / 0.24 == pytest.approx(1, abs=0.1)


def test_a_drawn_look_comes_before_a_taught_style_and_nothing_else_changes_places(toy_concepts: list[Concept]) -> None:
    look, other, style, another = 0, 3, len(toy_concepts) - 1, len(toy_concepts) - 2
    assert drawn_first(Recipe(style, second=look), toy_concepts) == Recipe(look, second=style)
    for kept in (Recipe(look, second=style), Recipe(other, second=look), Recipe(style, second=another), Recipe(style), Recipe(look)):
        assert drawn_first(kept, toy_concepts) == kept
    coloured = Recipe(style, colours=(1, 2), tone=3, noise_seed=4)
    assert drawn_first(coloured, toy_concepts) == coloured


def test_the_same_seed_gives_the_same_pairs_and_another_one_others(artist: PairArtist, pairs: DrawnPairs) -> None:
    assert equal(pairs, artist.drawn(COUNT, np.random.default_rng(5)))
    assert not equal(pairs, artist.drawn(COUNT, np.random.default_rng(6)))


def test_pairs_have_the_shapes_and_types_that_the_text_says(artist: PairArtist, pairs: DrawnPairs) -> None:
    side = artist.side
    found = {field.name: (getattr(pairs, field.name).shape, getattr(pairs, field.name).dtype) for field in fields(DrawnPairs)}
    assert found == {
        "contents": ((COUNT, side, side, 3), np.uint8),
        "drawn": ((COUNT, side, side, 3), np.uint8),
        "recipes": ((COUNT, 6), np.int64),
        "ids": ((COUNT, PROMPTS, MAX_TOKENS), np.int16),
        "noise": ((COUNT, LATENTS, side // 8, side // 8), np.float16),
    }


def test_drawn_pictures_are_what_their_recipes_say(artist: PairArtist, pairs: DrawnPairs) -> None:
    recipes = [Recipe.from_row(row) for row in pairs.recipes]
    kinds = {"look", "taught", "two", "clouds"}
    for recipe, content, drawn, noise in zip(recipes, pairs.contents, pairs.drawn, pairs.noise, strict=True):
        assert recipe == drawn_first(recipe, artist.concepts)
        wanted: npt.NDArray[np.uint8] = content.copy()
        looks = [artist.concepts[number].drawn for number in (recipe.first, recipe.second) if number >= 0]
        for look in looks:
            wanted = wanted if look is None else look(wanted)
        assert np.array_equal(drawn, wanted)
        kinds -= {"two"} if len(looks) == 2 else set()
        kinds -= {"taught"} if looks == [None] else set()
        kinds -= {"look"} if looks[0] is not None else set()
        if recipe.noise_seed >= 0:
            kinds -= {"clouds"}
            start = seeded_noise(recipe.noise_seed, side=artist.side)
            assert np.array_equal(content, clouds(start)) and np.array_equal(noise, start.half().numpy())
        else:
            assert not noise.any()
    assert not kinds, f"none of {kinds} among the recipes"


def test_prompts_fill_their_places_and_two_ways_of_asking_differ(pairs: DrawnPairs, tokenizer: CLIPTokenizer) -> None:
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    assert (pairs.ids[:, :, 0] == start).all() and (pairs.ids[:, :, -1] == end).all()
    assert (pairs.ids >= 0).all() and (pairs.ids < len(tokenizer)).all()
    assert np.mean([not np.array_equal(*ways) for ways in pairs.ids]) > 0.7


def test_crops_of_photos_show_part_of_a_photo(pairs: DrawnPairs) -> None:
    """Relit photos keep their order of brightness: none of the contents is flat, none is the same."""
    flat = pairs.contents.reshape(COUNT, -1)
    assert len({row.tobytes() for row in flat}) == COUNT
