"""Policies and live values of a video stream as they reach its network: seen in what each call is given, not in the classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from engine.diffusion.noise import seeded
from engine.frames import Frame, PixelFormat
from engine.models.video_denoiser import VideoDenoiser
from engine.models.video_policies import VideoPolicies
from engine.video.kv_cache import CacheAccess
from tests.engine.models.conftest import tiny_wan  # noqa: F401
from tests.engine.pipelines.test_video_stream import STREAM_V2, Make, feed, loaded, make  # noqa: F401

PLAIN = VideoPolicies(
    timesteps=(700.0, 500.0, 400.0, 200.0), warped=False, shift=8.0, step_rule="first", frames=1, window=6, sinks=1,
    scheduler="sequential", cache="ring", positions="cache_relative", noise="fixed",
)  # fmt: skip
CHUNK = 4
"""Pictures of a latent frame; the first one of a stream has one."""


@dataclass(frozen=True, eq=False)
class Call:
    """What the network was given: x [B, F, C, h, w], its timesteps, and from which slot to which it looked."""

    x: Tensor
    told: list[float]
    reads: tuple[int, int]

    @property
    def frames(self) -> int:
        return int(self.x.shape[1])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Every call of a video denoiser from now on."""
    seen: list[Call] = []
    right = VideoDenoiser.__call__

    def watched(self: VideoDenoiser, x: Tensor, timesteps: Tensor, prompts: Sequence[object], access: CacheAccess) -> Tensor:
        seen.append(Call(x.clone(), timesteps.flatten().tolist(), access.key.reads))
        return right(self, x, timesteps, prompts, access)

    monkeypatch.setattr(VideoDenoiser, "__call__", watched)
    return seen


def still(index: int) -> Frame:
    pixels = np.full((64, 64, 4), 127, np.uint8)
    return Frame(pixels, PixelFormat.BGRX, index / 30.0, index)


def wild(index: int) -> Frame:
    pixels = np.random.default_rng(index).integers(0, 256, (64, 64, 4), np.uint8)
    return Frame(pixels, PixelFormat.BGRX, index / 30.0, index)


def scales_and_timesteps(
    make: Make, calls: list[Call], picture: Callable[[int], Frame], noise_control: str  # noqa: F811
) -> tuple[list[float], list[float]]:
    """How much of every chunk's latent is noise, and what the network is told. Two seeds differ by scale times the noises' difference."""
    entered = []
    for seed in (1, 2):
        calls.clear()
        stream, values = make(PLAIN, noise_control=noise_control, steps=1, strength=0.8, seed=seed, seed_mode="fixed")
        feed(stream, values, [picture(i) for i in range(1 + 5 * CHUNK)])
        entered.append(list(calls))
    noises = [seeded(seed, (1, *entered[0][0].x.shape[1:])) for seed in (1, 2)]
    apart = float((noises[0] - noises[1]).norm())
    scales = [float((a.x - b.x).norm()) / apart for a, b in zip(*entered, strict=True)]
    return scales, [call.told[0] for call in entered[0]]


def test_a_wild_input_gets_less_noise_than_a_still_one(make: Make, calls: list[Call]) -> None:  # noqa: F811
    calm, calm_told = scales_and_timesteps(make, calls, still, "motion_aware")
    quick, quick_told = scales_and_timesteps(make, calls, wild, "motion_aware")
    assert calm == pytest.approx([0.8] * 6, abs=1e-3) and calm_told == pytest.approx([700.0] * 6, abs=1.0)
    # The first chunk has nothing to be compared with; then s <- 0.9 (0.8 - 0.1) + 0.1 s.
    expected = [0.8, 0.71, 0.701, 0.7001, 0.70001, 0.700001]
    assert quick == pytest.approx(expected, abs=1e-3)
    assert quick_told == pytest.approx([1000 * scale - 100 for scale in expected], abs=1.0)
    steady, _ = scales_and_timesteps(make, calls, wild, "fixed")
    assert steady == pytest.approx([0.8] * 6, abs=1e-3)


def passing(index: int) -> Frame:
    """A textured scene that moves right by two pixels a picture, one place of the latent a chunk."""
    scene = cv2.GaussianBlur(np.random.default_rng(3).integers(0, 256, (128, 192), np.uint8), (0, 0), 3)
    scene = cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    left = 60 - 2 * index
    grey = scene[:, left : left + 128]
    return Frame(np.ascontiguousarray(np.stack([grey] * 4, -1)), PixelFormat.BGRX, index / 30.0, index)


def follows(calls: list[Call]) -> list[float]:
    """Correlation of every chunk's noise with that of the chunk before, one place to the right."""
    noises = [call.x[0, 0] for call in calls]
    pairs = [(now[..., 2:-1, 2:-1].flatten(), before[..., 2:-1, 1:-2].flatten()) for before, now in zip(noises, noises[1:], strict=False)]
    return [float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in pairs]


def test_noise_of_the_stream_is_that_of_the_chunk_before_moved(make: Make, calls: list[Call]) -> None:  # noqa: F811
    """At a strength of 1 a chunk enters as its noise alone."""
    found = {}
    for control in ("flow_warped", "fixed"):
        calls.clear()
        stream, values = make(PLAIN, noise_control=control, steps=1, strength=1.0, width=128, height=128)
        feed(stream, values, [passing(i) for i in range(1 + 5 * CHUNK)])
        assert len(calls) == 6 and all(abs(float(call.x.std()) - 1) < 0.05 for call in calls)
        found[control] = follows(calls)
    assert min(found["flow_warped"]) > 0.7, found
    assert max(abs(share) for share in found["fixed"]) < 0.1, "noise that is drawn anew follows nothing"


@pytest.mark.parametrize(
    ("turned", "before", "after"),
    [
        ({"noise_control": "motion_aware"}, (1, [700.0, 500.0]), (1, [600.0, 500.0])),
        ({"chunk_frames": 2}, (1, [700.0, 500.0]), (2, [700.0, 500.0])),
        ({"step_list": (900, 600, 300)}, (1, [700.0, 500.0]), (1, [900.0, 600.0, 300.0])),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("scheduler", ["sequential", "stream_batch"])
def test_what_is_turned_while_it_runs_reaches_the_network_and_loses_no_frame(
    make: Make,  # noqa: F811
    calls: list[Call],
    turned: dict[str, object],
    before: tuple[int, list[float]],
    after: tuple[int, list[float]],
    scheduler: str,
) -> None:
    stream, values = make(PLAIN, step_scheduler=scheduler, steps=2, strength=0.8, prompt_recache="keep")
    first, count = 1 + 4 * CHUNK, 1 + 12 * CHUNK
    found = feed(stream, values, [wild(i) for i in range(first)])
    assert steady(calls, scheduler, len(before[1])) == (before[0], pytest.approx(before[1], abs=2.0))
    values.set_many(turned)
    found += feed(stream, values, [wild(i) for i in range(first, count)])
    assert steady(calls, scheduler, len(after[1])) == (after[0], pytest.approx(after[1], abs=2.0))
    found += stream.flush(values.snapshot(0.0))
    assert [frame.index for frame in found] == list(range(count)) and not stream.problems()


def steady(calls: list[Call], scheduler: str, steps: int) -> tuple[int, list[float]]:
    """Latent frames a chunk, and the timesteps of its steps, in the newest chunks."""
    if scheduler == "stream_batch":
        return calls[-1].frames, calls[-1].told
    return calls[-1].frames, [call.told[0] for call in calls[-steps:]]


def test_recompute_sends_the_last_frames_alone_through_the_network_once_a_chunk(
    make: Make, calls: list[Call], monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:
    stream, values = make(replace(PLAIN, cache="recompute", context=3, sinks=0), steps=2)
    clean: list[Tensor] = []
    stream.watch_latent = lambda number, latent: clean.append(latent.clone())
    alone: list[Tensor] = []
    encode = stream._codec.encode_alone

    def watched(picture: Tensor) -> Tensor:
        alone.append(encode(picture))
        return alone[-1]

    monkeypatch.setattr(stream._codec, "encode_alone", watched)
    feed(stream, values, [wild(i) for i in range(1 + 7 * CHUNK)])
    assert len(clean) == 8
    contexts = [call for call in calls if call.told == [0.0]]
    assert len(contexts) == 7 and len(calls) == 7 + 8 * 2, "one call of context before every chunk but the first"
    assert [call.frames for call in contexts] == [1, 2, 3, 3, 3, 3, 3]
    assert all(call.reads[1] - call.reads[0] == call.frames for call in contexts), "they attend to nothing but themselves"
    assert len(alone) == 4, "from where frames are left behind, the oldest one is that of a lone picture"
    for number, call in enumerate(contexts, start=1):
        last = [latent for latent in clean[max(0, number - 3) : number]]
        if number > 3:
            last[0] = alone[number - 4]
        assert torch.equal(call.x, torch.cat(last, dim=1))
