"""Parameters of image models on a video stream: they do what they promise, or it is told once that they do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.control.live_values import LiveValues
from engine.control.table import BY_NAME
from engine.diffusion.noise import seed_of_frame, seeded, travel
from engine.frames import Frame
from engine.pipelines.unused_values import UNUSED, UnusedValues
from engine.pipelines.video_build import unused_settings
from engine.pipelines.video_entry import ChunkEntry
from engine.pipelines.video_stillness import ChunkStillness
from engine.settings import Settings
from tests.engine.models.conftest import tiny_wan  # noqa: F401
from tests.engine.pipelines.test_video_stream import CPU, STREAM_V2, Make, feed, loaded, make, same  # noqa: F401

SHAPE = (1, 4, 3, 3)


def noises(chunks: int, **asked: object) -> list[torch.Tensor]:
    """What chunks of pure noise enter with, 0.5 s apart."""
    values, entry = LiveValues(), ChunkEntry(STREAM_V2, CPU)
    values.set_many(asked)
    values.jump()
    return [entry.from_noise(values.snapshot(0.5), (700.0, 500.0), SHAPE).latent for _ in range(chunks)]


def test_a_fixed_seed_gives_every_chunk_the_same_noise() -> None:
    first, *others = noises(3, seed=5, seed_mode="fixed")
    assert torch.equal(first[0], seeded(5, (2, *SHAPE))[0]) and all(torch.equal(first, other) for other in others)


def test_random_gives_every_chunk_its_own_noise_and_the_seed_all_of_it() -> None:
    found = noises(3, seed=5, seed_mode="random")
    assert all(torch.equal(noise[0], seeded(seed_of_frame(5, count), (2, *SHAPE))[0]) for count, noise in enumerate(found))
    assert not torch.equal(found[0], found[1])


def test_a_travelling_seed_wanders_from_one_seeds_noise_to_the_next() -> None:
    found = noises(5, seed=5, seed_mode="travel", seed_travel_rate=0.5)  # a quarter of the way in each half second
    here, there = (seeded(seed, (2, *SHAPE)) for seed in (5, 6))
    for noise, share in zip(found[:3], (0.25, 0.5, 0.75), strict=True):
        assert torch.allclose(noise[0], travel(here, there, share)[0], atol=1e-5)
    assert torch.allclose(found[3][0], there[0], atol=1e-5)


@pytest.mark.parametrize("asked", [{}, {"step_list": [600, 300]}], ids=["the model's steps", "listed"])
def test_a_chunk_out_of_noise_enters_at_the_level_of_noise(asked: dict[str, object]) -> None:
    values, entry = LiveValues(), ChunkEntry(STREAM_V2, CPU)
    values.set_many({"steps": 2, **asked})
    snapshot = values.snapshot(0.0)
    steps = entry.steps(snapshot, "sequential")
    assert steps[0] < 1000
    entered = entry.from_noise(snapshot, steps, (4, 4, 16, 16))
    assert entered.levels.timesteps[0] == 1000 and entered.levels.sigmas[0] == 1 and len(entered.levels) == 2
    assert entered.levels.timesteps[1] == steps[1]
    assert float(entered.latent.std()) == pytest.approx(float(entered.levels.sigmas[0]), abs=0.05)


def test_a_list_of_steps_says_how_much_noise_a_chunk_of_pictures_gets_in_place_of_the_strength() -> None:
    found = []
    for strength in (0.2, 0.9):
        values, entry = LiveValues(), ChunkEntry(STREAM_V2, CPU)
        values.set_many({"step_list": [600, 300], "strength": strength})
        values.jump()
        snapshot = values.snapshot(0.0)
        clean, pictures = torch.zeros(1, 1, 4, 16, 16), torch.zeros(1, 1, 3, 128, 128)
        entered = entry.from_pictures(snapshot, entry.steps(snapshot, "sequential"), clean, pictures, [None])
        assert float(entered.latent.std()) == pytest.approx(float(entered.levels.sigmas[0]), abs=0.05)
        found.append(entered.latent)
    assert torch.equal(*found)


@pytest.mark.parametrize("rule", ["first", "spread"])
def test_a_list_of_steps_is_thinned_out_to_what_is_planned(rule: str) -> None:
    policies = replace(STREAM_V2, step_rule=rule, first_timesteps=(1000.0, 750.0, 500.0, 250.0))
    values, entry = LiveValues(), ChunkEntry(policies, CPU)
    assert entry.steps(values.snapshot(0.0), "sequential") == policies.first_timesteps
    chosen = {"first": (1000.0, 750.0), "spread": (1000.0, 500.0)}[rule]
    assert entry.steps(values.snapshot(0.0), "sequential", 2) == chosen
    values.set("step_list", [200, 800, 400, 600])
    assert entry.steps(values.snapshot(0.0), "sequential") == entry.steps(values.snapshot(0.0), "sequential", 8) == (800, 600, 400, 200)
    assert entry.steps(values.snapshot(0.0), "sequential", 1) == (800,)
    assert entry.steps(values.snapshot(0.0), "sequential", 2) == {"first": (800, 600), "spread": (800, 400)}[rule]


def still(frame: Frame, index: int) -> Frame:
    return replace(frame, captured_at=index / 30.0, index=index)


def test_chunks_of_a_still_input_are_skipped_until_it_moves_or_somebody_turns_something(
    make: Make, moving: Callable[[int], Frame]  # noqa: F811
) -> None:
    stream, values = make(similarity_filter=True, similarity_max_skip=1000)
    made: list[int] = []
    stream.watch_latent = lambda number, latent: made.append(number)
    frame = moving(0)
    found = feed(stream, values, [still(frame, i) for i in range(13)])
    assert [f.index for f in found] == list(range(5)) and len(made) == 1 and stream.skipped == 8
    assert stream.in_flight == 0
    found = feed(stream, values, [moving(i) for i in range(13, 17)])
    assert [f.index for f in found] == [13, 14, 15, 16] and stream.skipped == 8
    feed(stream, values, [still(moving(16), i) for i in range(17, 21)])
    assert stream.skipped == 12
    values.set("strength", 0.5)
    values.jump()
    assert len(feed(stream, values, [still(moving(16), i) for i in range(21, 25)])) == 4
    values.set("prompt", "oil painting")
    assert len(feed(stream, values, [still(moving(16), i) for i in range(25, 29)])) == 4
    assert feed(stream, values, [still(moving(16), i) for i in range(29, 33)]) == []


def test_a_prompt_that_still_blends_in_is_not_stopped_by_a_still_input(make: Make, moving: Callable[[int], Frame]) -> None:  # noqa: F811
    stream, values = make(similarity_filter=True, similarity_max_skip=1000, prompt_chunks=3)
    feed(stream, values, [still(moving(0), i) for i in range(9)])
    values.set("prompt", "oil painting")
    counts = [len(feed(stream, values, [still(moving(0), i) for i in range(9 + 4 * k, 13 + 4 * k)])) for k in range(5)]
    assert counts == [4, 4, 4, 0, 0]


def test_one_frame_that_moves_is_enough_for_its_chunk() -> None:
    values, stillness = LiveValues(), ChunkStillness()
    values.set("similarity_filter", True)
    snapshot = values.snapshot(0.0)
    grey, white = np.zeros((64, 64, 3), np.float32), np.ones((64, 64, 3), np.float32)
    assert stillness.admits([grey] * 4, snapshot, settled=True)
    assert not stillness.admits([grey] * 4, snapshot, settled=True)
    assert stillness.admits([grey, white, grey, grey], snapshot, settled=True)
    assert not stillness.admits([grey] * 4, snapshot, settled=True)
    assert not stillness.admits([grey] * 4, snapshot, settled=True)
    assert stillness.admits([grey] * 4, snapshot, settled=True), "ten frames in a row are the most"
    assert stillness.admits([grey] * 4, snapshot, settled=False), "the prompt has not come through"
    assert stillness.skipped == 12


def test_a_filter_that_is_off_changes_nothing(make: Make, moving: Callable[[int], Frame]) -> None:  # noqa: F811
    clip: list[Frame | None] = [moving(i) for i in range(13)]
    one, two = (feed(*make(similarity_filter=on), clip) for on in (False, True))
    assert same(one, two)


def test_knobs_without_effect_are_told_once_each_time_they_are_turned() -> None:
    values, unused = LiveValues(), UnusedValues()
    assert unused.notes(values.snapshot(0.0)) == []
    values.set_many({"guidance": "full", "stream_batch": False, "steadiness": 0.0})
    values.jump()
    assert unused.notes(values.snapshot(0.0)) == ["without effect on a video model: guidance, stream_batch (step_scheduler does)"]
    assert unused.notes(values.snapshot(0.0)) == []
    values.set("guidance", "none")
    assert unused.notes(values.snapshot(0.0)) == []
    values.set("guidance", "self")
    assert unused.notes(values.snapshot(0.0)) == ["without effect on a video model: guidance"]


def test_what_is_told_to_be_without_effect_is(make: Make, moving: Callable[[int], Frame]) -> None:  # noqa: F811
    clip: list[Frame | None] = [moving(i) for i in range(9)]
    plain = feed(*make(), clip)
    turned = {
        "guidance": "full", "guidance_scale": 7.5, "delta": 0.5, "negative_prompt": "a dog", "step_method": "euler",
        "add_noise": False, "stream_batch": False, "frame_buffer": 2,
        "cross_frame_attention": True, "feedback": 0.5, "steadiness": 1.0, "prompt_fade": 3.0,
    }  # fmt: skip
    assert set(turned) == set(UNUSED) <= set(BY_NAME)
    stream, values = make(**turned)
    assert same(plain, feed(stream, values, clip))
    (told,) = stream.problems()
    assert all(name in told for name in UNUSED)


@pytest.mark.parametrize(("accelerate", "told"), [("auto", 0), ("none", 0), ("compile", 0), ("openvino", 1)])
def test_an_acceleration_that_video_models_do_not_have_is_told(accelerate: str, told: int) -> None:
    assert len(unused_settings(Settings(accelerate=accelerate))) == told
