"""The video stream over a tiny model in Wan's layout: frames in, chunks, frames out with their own times, everything live."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.control.live_values import LiveValues
from engine.frames import Frame
from engine.models.catalogue import resolve
from engine.models.video_catalogue import VIDEO_CATALOGUE
from engine.models.video_policies import VideoPolicies
from engine.models.video_weights import LoadedVideoModel, load_video
from engine.pipelines.build import build_stream
from engine.pipelines.video_build import LoadedVideoStream, assemble
from engine.pipelines.video_parts import check, largest_chunk
from engine.settings import Settings, SettingsError
from tests.engine.models.conftest import tiny_wan  # noqa: F401

CPU = torch.device("cpu")
STREAM_V2 = VideoPolicies(
    input_latents="raw", timesteps=(700.0, 500.0, 400.0, 200.0), warped=False, shift=8.0, step_rule="first", frames=1, first_frames=2,
    window=6, sinks=3, scheduler="sequential", cache="adaptive_sinks", sink_threshold=0.2, positions="reset", reset_at=10, restart_at=5,
    noise="motion_aware", on_prompt="recache",
)  # fmt: skip
Make = Callable[..., tuple[LoadedVideoStream, LiveValues]]


@pytest.fixture(scope="module")
def loaded(tiny_wan: Path) -> LoadedVideoModel:  # noqa: F811
    """The tiny model, float32 on the CPU."""
    return load_video(resolve(str(tiny_wan)), device=CPU, dtype=torch.float32)


@pytest.fixture
def make(loaded: LoadedVideoModel) -> Make:
    """A stream at 64 x 64 and its values."""

    def build(policies: VideoPolicies = STREAM_V2, output_size: tuple[int, int] | None = None, **asked: object):  # type: ignore[no-untyped-def]
        values = LiveValues()
        values.set_many({"width": 64, "height": 64, "prompt": "a cat", "strength": 0.8, "steps": 2, "prompt_chunks": 1, **asked})
        values.jump()
        model = replace(loaded, policies=policies)
        stream = assemble(
            model, values.snapshot(0.0), encoder=model.prompts(), wait=True, output_size=output_size, clock=lambda: 123.0
        )
        return stream, values

    return build


def feed(stream: LoadedVideoStream, values: LiveValues, frames: list[Frame | None]) -> list[Frame]:
    found: list[Frame] = []
    for frame in frames:
        found += stream.step(frame, values.snapshot(0.0))
    return found


def same(a: list[Frame], b: list[Frame]) -> bool:
    return [f.index for f in a] == [f.index for f in b] and all(np.array_equal(x.pixels, y.pixels) for x, y in zip(a, b, strict=True))


def test_every_frame_comes_out_once_with_its_own_time_and_index(make: Make, moving: Callable[[int], Frame]) -> None:
    stream, values = make()
    counts = [len(stream.step(moving(i), values.snapshot(0.0))) for i in range(13)]
    assert counts == [0, 0, 0, 0, 5, 0, 0, 0, 4, 0, 0, 0, 4]  # 1 + 4 pictures in two latents, then 4 in one
    stream, values = make()
    found = feed(stream, values, [moving(i) for i in range(13)])
    assert [(f.index, f.captured_at) for f in found] == [(i, i / 30.0) for i in range(13)]
    assert all(f.pixels.shape == (64, 64, 4) for f in found)
    assert stream.in_flight == 0


def test_a_start_with_one_frame_shows_the_first_picture_at_once(make: Make, moving: Callable[[int], Frame]) -> None:
    stream, values = make(one_frame_start=True)
    assert [len(stream.step(moving(i), values.snapshot(0.0))) for i in range(9)] == [1, 0, 0, 0, 4, 0, 0, 0, 4]


def test_flush_finishes_a_chunk_that_is_not_full_and_shows_only_real_frames(make: Make, moving: Callable[[int], Frame]) -> None:
    stream, values = make()
    found = feed(stream, values, [moving(i) for i in range(7)])
    assert stream.in_flight == 2
    found += stream.flush(values.snapshot(0.0))
    assert [f.index for f in found] == list(range(7)) and stream.in_flight == 0
    later = feed(stream, values, [moving(i) for i in range(7, 11)])
    assert [f.index for f in later] == [7, 8, 9, 10]


@pytest.mark.parametrize("scheduler", ["sequential", "clean_rerun", "stream_batch", "rolling_window"])
def test_every_step_scheduler_gives_every_frame_in_order(make: Make, moving: Callable[[int], Frame], scheduler: str) -> None:
    policies = replace(STREAM_V2, cache="ring", sink_threshold=0.0)
    stream, values = make(policies, step_scheduler=scheduler)
    found = feed(stream, values, [moving(i) for i in range(21)]) + stream.flush(values.snapshot(0.0))
    assert [f.index for f in found] == list(range(21))


@pytest.mark.parametrize(
    "changed",
    [
        {"cache": "ema_sinks", "ema": 0.9, "positions": "cache_relative"},
        {"cache": "two_ema_memory", "positions": "cache_relative", "sinks": 1},
        {"cache": "deep_sinks", "positions": "cache_relative", "sinks": 2},
        {"cache": "rolling_sink", "positions": "cache_relative", "sinks": 2},
        {"cache": "recompute", "context": 2, "sinks": 0, "input_latents": "normalised"},
        {"cache": "ring", "positions": "absolute"},
        {"noise": "flow_warped"},
        {"noise": "fixed", "frames": 2, "first_frames": 0},
    ],
    ids=lambda changed: "-".join(str(value) for value in changed.values()),
)
def test_every_policy_runs_in_a_stream_and_reset_starts_it_afresh(
    make: Make, moving: Callable[[int], Frame], changed: dict[str, object]
) -> None:
    stream, values = make(replace(STREAM_V2, **changed))  # type: ignore[arg-type]
    clip: list[Frame | None] = [moving(i) for i in range(33)]
    first = feed(stream, values, clip)
    stream.flush(values.snapshot(0.0))
    stream.reset()
    assert same(first, feed(stream, values, clip))
    assert len(first) >= 29 and not stream.problems()


def test_the_seed_decides_the_noise(make: Make, moving: Callable[[int], Frame]) -> None:
    clip: list[Frame | None] = [moving(i) for i in range(9)]
    one, two, other = (feed(*make(seed=seed), clip) for seed in (5, 5, 6))
    assert same(one, two) and not same(one, other)


def test_more_strength_leaves_less_of_the_input(make: Make, moving: Callable[[int], Frame]) -> None:
    latents: list[torch.Tensor] = []
    for strength in (0.2, 0.5, 0.9):
        stream, values = make(strength=strength, steps=1, noise_control="fixed")
        stream.watch_latent = lambda number, latent: latents.append(latent)
        feed(stream, values, [moving(i) for i in range(5)])
    weak, middle, strong = latents
    assert (weak - middle).abs().mean() < (weak - strong).abs().mean()


def test_steps_change_while_it_runs_without_a_lost_frame(make: Make, moving: Callable[[int], Frame]) -> None:
    for scheduler in ("sequential", "stream_batch"):
        stream, values = make(step_scheduler=scheduler)
        found: list[Frame] = []
        for i in range(33):
            values.set("steps", 1 + i // 9)
            found += stream.step(moving(i), values.snapshot(0.0))
        found += stream.flush(values.snapshot(0.0))
        assert [f.index for f in found] == list(range(33))


def test_a_prompt_changes_without_a_restart(make: Make, moving: Callable[[int], Frame]) -> None:
    stream, values = make(prompt_chunks=2)
    plain, untouched = make()
    before = feed(stream, values, [moving(i) for i in range(13)])
    assert same(before, feed(plain, untouched, [moving(i) for i in range(13)]))
    assert stream._plans.denoising is not None
    rollout, seen = stream._plans.denoising.rollout, stream._plans.denoising.rollout.seen
    values.set("prompt", "sea oil painting of the sea")
    after = feed(stream, values, [moving(i) for i in range(13, 33)])
    assert [f.index for f in before + after] == list(range(33))
    assert stream._plans.denoising.rollout is rollout and rollout.seen == seen + 5
    assert not same(after, feed(plain, untouched, [moving(i) for i in range(13, 33)]))


def test_the_prompt_blends_in_over_chunks_and_the_context_is_recached_once(
    make: Make, moving: Callable[[int], Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, values = make(prompt_chunks=3)
    feed(stream, values, [moving(i) for i in range(9)])
    seen: list[torch.Tensor] = []
    right = stream._plans._site.network.prompt
    monkeypatch.setattr(stream._plans._site.network, "prompt", lambda tokens: seen.append(tokens) or right(tokens))  # type: ignore[func-returns-value]
    switched: list[int] = []
    assert stream._plans.denoising is not None
    switch = stream._plans.denoising.switch_prompt
    monkeypatch.setattr(stream._plans.denoising, "switch_prompt", lambda told: switched.append(len(seen)) or switch(told))  # type: ignore[func-returns-value]
    old, new = (stream._prompts._mix._encoder.encode(text).tokens for text in ("a cat", "oil painting"))
    values.set("prompt", "oil painting")
    feed(stream, values, [moving(i) for i in range(9, 29)])
    for tokens, share in zip(seen, (1 / 3, 2 / 3, 1.0), strict=True):
        assert torch.allclose(tokens, (1 - share) * old + share * new, atol=1e-5)
    assert switched == [3]


def test_text_to_video_needs_no_input(make: Make) -> None:
    stream, values = make(replace(STREAM_V2, noise="fixed"), mode="text_to_image")
    counts = [len(stream.step(None, values.snapshot(0.0))) for _ in range(13)]
    # A chunk as soon as the pictures of the one before have had their time: 5, then 4.
    assert counts == [5, 0, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0]
    again, other = make(replace(STREAM_V2, noise="fixed"), mode="text_to_image")
    found = feed(again, other, [None] * 13)
    assert [f.index for f in found] == list(range(13)) and {f.captured_at for f in found} == {123.0}
    assert not np.array_equal(found[0].pixels, found[12].pixels)


def test_between_text_and_input_and_back(make: Make, moving: Callable[[int], Frame]) -> None:
    stream, values = make(mode="text_to_image")
    found = feed(stream, values, [None] * 9)
    values.set("mode", "image_to_image")
    found += feed(stream, values, [moving(i) for i in range(9)])
    values.set("mode", "text_to_image")
    found += feed(stream, values, [None] * 9)
    values.set("mode", "image_to_image")
    found += feed(stream, values, [moving(i) for i in range(9, 17)])
    indices = [f.index for f in found]
    assert indices == sorted(set(indices)) and len(found) > 30


def test_dreaming_goes_on_with_the_last_frame_and_holding_does_not(make: Make, moving: Callable[[int], Frame]) -> None:
    stream, values = make()
    feed(stream, values, [moving(i) for i in range(5)])
    assert feed(stream, values, [None] * 8) == []
    values.set("without_input", "dream")
    assert [f.index for f in feed(stream, values, [None] * 8)] == list(range(5, 13))


def test_a_new_size_finishes_what_is_in_flight_at_the_old_one(make: Make, moving: Callable[[int], Frame]) -> None:
    stream, values = make(step_scheduler="stream_batch")
    found = feed(stream, values, [moving(i) for i in range(14)])
    values.set("width", 80)
    found += feed(stream, values, [moving(i) for i in range(14, 28)]) + stream.flush(values.snapshot(0.0))
    assert [f.index for f in found] == list(range(28))
    assert [f.pixels.shape[1] for f in found] == [64] * 14 + [80] * 14


def test_dry_is_the_input_of_the_same_moment(make: Make, moving: Callable[[int], Frame]) -> None:
    stream, values = make(mix=0.0)
    for frame in feed(stream, values, [moving(i) for i in range(13)]):
        assert np.array_equal(frame.pixels[..., :3], moving(frame.index).pixels[..., :3])


def test_a_picture_that_is_no_numbers_is_left_out_and_told(
    make: Make, moving: Callable[[int], Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, values = make()
    right = stream._codec.codec.decode

    def broken(latents: torch.Tensor) -> torch.Tensor:
        pictures = right(latents).clone()
        pictures[:, 1] = float("nan")
        return pictures

    monkeypatch.setattr(stream._codec.codec, "decode", broken)
    assert [f.index for f in feed(stream, values, [moving(i) for i in range(5)])] == [0, 2, 3, 4]
    assert any("no numbers" in told for told in stream.problems()) and stream.in_flight == 0


def test_pictures_have_the_output_size(make: Make, moving: Callable[[int], Frame]) -> None:
    stream, values = make(output_size=(80, 40))
    assert {f.pixels.shape for f in feed(stream, values, [moving(i) for i in range(5)])} == {(40, 80, 4)}


def test_a_folder_is_built_into_a_stream_with_its_own_policies(
    tiny_wan: Path, tmp_path: Path, moving: Callable[[int], Frame]  # noqa: F811
) -> None:
    folder = Path(shutil.copytree(tiny_wan, tmp_path / "video"))
    (folder / "video_policies.json").write_text(json.dumps({"frames": 1, "window": 3, "scheduler": "sequential", "timesteps": [1000, 500]}))
    values = LiveValues()
    values.set_many({"width": 64, "height": 64, "steps": 2})
    stream = build_stream(Settings(model=str(folder), device="cpu", dtype="float32"), values.snapshot(0.0), live=False)
    assert (stream.model, stream.size, stream.dtype, stream.runtime) == ("video", (64, 64), "float32", "torch f32")
    found = [frame for i in range(9) for frame in stream.step(moving(i), values.snapshot(0.0))]
    assert [f.index for f in found] == list(range(9))
    assert set(stream.stage_ms()) == set(stream.newest_stage_ms()) == {"encode", "denoise", "decode"}


def test_a_deadline_takes_steps_away_until_it_is_held_and_gives_them_back(
    make: Make, moving: Callable[[int], Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, values = make(steps=4, deadline=400.0)
    forward = [0.1]  # seconds of a call on this machine, as far as the stream can tell
    used: list[int] = []

    def times() -> dict[str, float]:
        used.append(stream._deadline._control.plan.steps if stream._deadline._control else 0)
        return {"encode": 1.0, "denoise": 1000.0 * forward[0] * used[-1], "decode": 1.0}

    monkeypatch.setattr(stream, "newest_stage_ms", times)
    found = feed(stream, values, [moving(i) for i in range(4 * 40 + 1)])
    # Four pictures at 30 a second are 133 ms, which is what a chunk may take: one call.
    assert used[0] == 4 and used[-1] == 1
    forward[0] = 0.02
    found += feed(stream, values, [moving(i) for i in range(161, 4 * 140 + 1)])
    assert used[-1] == 4
    assert [f.index for f in found] == list(range(561))


def test_the_report_counts_misses_and_the_first_frame(make: Make, moving: Callable[[int], Frame]) -> None:
    stream, values = make(deadline=1000.0)
    feed(stream, values, [moving(i) for i in range(9)])
    told = stream.punctuality()  # the clock stands at 123 s
    assert (told.frames, told.missed, told.first_frame, told.dropped) == (9, 9, 0.0, 0)


def test_a_scheduler_that_does_not_go_with_the_cache_is_told_and_the_picture_goes_on(make: Make, moving: Callable[[int], Frame]) -> None:
    stream, values = make(step_scheduler="rolling_window")
    found = feed(stream, values, [moving(i) for i in range(9)])
    assert [f.index for f in found] == list(range(9))
    assert [told for told in stream.problems() if "does not go with" in told] == [
        "this model's cache does not go with the step scheduler rolling_window; it runs sequential"
    ]
    feed(stream, values, [moving(i) for i in range(9, 17)])
    assert stream.problems() == []


@pytest.mark.parametrize(
    "wrong", [{"cache": "ema_sinks", "ema": 0.9, "positions": "absolute"}, {"scheduler": "rolling_window"}], ids=["baked", "window"]
)
def test_policies_that_do_not_go_together_are_refused_in_plain_words(make: Make, wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="cannot be run as its policies say"):
        make(replace(STREAM_V2, **wrong))  # type: ignore[arg-type]


def test_every_row_of_the_catalogue_goes_together() -> None:
    for card in VIDEO_CATALOGUE:
        assert card.video is not None
        check(card.video)
        assert largest_chunk(card.video, 0) == card.video.frames


def test_another_step_scheduler_goes_on_from_the_frames_that_were_made(make: Make, moving: Callable[[int], Frame]) -> None:
    stream, values = make(prompt_recache="keep")
    feed(stream, values, [moving(i) for i in range(13)])
    assert stream._plans.denoising is not None
    before = list(stream._plans.denoising.rollout.history)
    values.set("step_scheduler", "stream_batch")
    found = feed(stream, values, [moving(i) for i in range(13, 17)])
    assert [f.index for f in found] == [13, 14, 15, 16]
    after = stream._plans.denoising.rollout
    assert len(before) == 4 and after.seen == 5 and after.rows == 2
    assert all(torch.equal(a, b) for a, b in zip(before, after.history, strict=False))
    assert torch.isfinite(after.cache.written).sum(-1).eq(5).all()
