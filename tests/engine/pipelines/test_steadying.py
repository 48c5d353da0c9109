"""Steadying: noise goes down as the recursion says, cuts and turned knobs show at once, and nothing else of the stream changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.control.live_values import LiveValues
from engine.frames import Frame, PixelFormat
from engine.gpu.transfer import Transfer
from engine.models.text_encoder import PromptEmbedding
from engine.pipelines.image_stream import ImageStream
from engine.pipelines.steadying import STRONGEST, Steadying, Trace, trace_of

Make = Callable[..., tuple[ImageStream, LiveValues]]
Moving = Callable[..., Frame]

PROMPT = PromptEmbedding(text="a", tokens=torch.zeros(1, 1, 1), pooled=None)
SIDE = 128


def scene(step: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Grey [128, 128]: smooth texture that moves two pixels to the left with every step."""
    wide = torch.rand(1, 1, 24, 48, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(wide, size=(SIDE, 2 * SIDE), mode="bicubic", align_corners=False)
    return np.ascontiguousarray((smooth.clamp(0, 1) * 255).byte().numpy()[0, 0, :, 2 * step : 2 * step + SIDE])


def trace(grey: NDArray[np.uint8], index: int, *, prompt: PromptEmbedding = PROMPT, seconds: float = 0.0, **turned: object) -> Trace:
    values = LiveValues()
    values.set_many({"steadiness": 1.0, "width": SIDE, "height": SIDE, **turned})
    values.jump()
    frame = Frame(np.dstack([grey] * 4), PixelFormat.BGRX, 0.0, index)
    found = trace_of(frame, values.snapshot(seconds), size=(SIDE, SIDE), index=index, prompt=prompt, negative=None)
    assert found is not None
    return found


def picture(seed: int) -> Tensor:
    return torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)).clamp(-3, 3) / 10


def fresh() -> Steadying:
    return Steadying(Transfer(torch.device("cpu")))


@pytest.mark.parametrize("amount", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("moves", [False, True])
def test_noise_goes_down_as_the_recursion_says(amount: float, moves: bool) -> None:
    """y' = (1 - a) x + a y over independent x of variance 1 settles at a variance of (1 - a) / (1 + a)."""
    steadying, share = fresh(), STRONGEST * amount
    left = []
    for i in range(40):
        grey = scene(i if moves else 0)
        signal = torch.from_numpy(grey).float()[None, None] / 255
        shown = steadying(signal + picture(i), [trace(grey, i)], amount)
        left.append((shown - signal)[..., 16:-16, 16:-16].std())
    expected = float(np.sqrt((1 - share) / (1 + share)))
    found = float(torch.stack(left[20:]).mean() / left[0])
    # Between pixels the motion is off by a few hundredths, and interpolation takes some more of the noise away.
    assert found == pytest.approx(expected, rel=0.02) if not moves else 0.75 * expected < found < 1.05 * expected


def test_a_still_picture_settles() -> None:
    steadying, grey = fresh(), scene(0)
    steadying(picture(0), [trace(grey, 0)], 1.0)
    for i in range(1, 40):
        shown = steadying(picture(1), [trace(grey, i)], 1.0)
    torch.testing.assert_close(shown, picture(1), atol=STRONGEST**39 * 2 + 1e-4, rtol=0)


def test_a_cut_shows_the_new_picture_bit_for_bit() -> None:
    steadying = fresh()
    for i in range(4):
        steadying(picture(i), [trace(scene(i), i)], 1.0)
    assert torch.equal(steadying(picture(9), [trace(scene(0, seed=1), 4)], 1.0), picture(9))
    assert not torch.equal(steadying(picture(10), [trace(scene(0, seed=1), 5)], 1.0), picture(10))


@pytest.mark.parametrize(
    "turn",
    [{"strength": 0.3}, {"seed": 9}, {"steps": 2}, {"guidance": "self"}, {"prompt_weight": 0.5}, {"step_list": (400,)},
     {"prompt": PromptEmbedding(text="b", tokens=torch.ones(1, 1, 1), pooled=None), "prompt_fade": 0}],
)  # fmt: skip
def test_a_turned_knob_shows_at_once(turn: dict[str, object]) -> None:
    steadying, grey = fresh(), scene(0)
    asked = {"prompt_fade": 0} if "prompt_fade" in turn else {}
    steadying(picture(0), [trace(grey, 0, **asked)], 1.0)
    assert torch.equal(steadying(picture(1), [trace(grey, 1, **turn)], 1.0), picture(1))  # type: ignore[arg-type]
    assert not torch.equal(steadying(picture(2), [trace(grey, 2, **turn)], 1.0), picture(2))  # type: ignore[arg-type]


def test_slow_turning_and_a_slow_fade_blend_the_less_the_faster_they_go() -> None:
    def past(first: dict[str, object], then: dict[str, object]) -> float:
        steadying, grey = fresh(), scene(0)
        black, white = torch.full((1, 3, SIDE, SIDE), -1.0), torch.ones(1, 3, SIDE, SIDE)
        steadying(black, [trace(grey, 0, **first)], 1.0)  # type: ignore[arg-type]
        return float((1 - steadying(white, [trace(grey, 1, **then)], 1.0)[0, 0, 64, 64]) / 2)

    still = past({"strength": 0.5}, {"strength": 0.5})
    assert still == pytest.approx(STRONGEST)
    assert past({"strength": 0.5}, {"strength": 0.525}) == pytest.approx(0.75 * still)
    other = PromptEmbedding(text="b", tokens=torch.ones(1, 1, 1), pooled=None)
    assert past({"prompt_fade": 10}, {"prompt_fade": 10, "prompt": other, "seconds": 0.5}) == pytest.approx(0.5 * still)


def test_a_picture_that_comes_late_is_left_alone_and_forgotten() -> None:
    steadying, grey = fresh(), scene(0)
    steadying(picture(0), [trace(grey, 5)], 1.0)
    assert torch.equal(steadying(picture(1), [trace(grey, 4)], 1.0), picture(1))
    shown = steadying(picture(2), [trace(grey, 6)], 1.0)
    torch.testing.assert_close(shown, torch.lerp(picture(2), picture(0), STRONGEST), atol=1e-3, rtol=0)


def finished(stream: ImageStream, values: LiveValues, frames: list[Frame]) -> list[Frame]:
    out = [done for frame in frames for done in stream.step(frame, values.snapshot(1 / 30))]
    return out + stream.flush(values.snapshot(1 / 30))


@pytest.mark.parametrize("asked", [{"steps": 3}, {"steps": 2, "frame_buffer": 3}, {"stream_batch": False, "steps": 2}])
def test_the_stream_is_the_recursion_over_the_stream_without_it(make_stream: Make, moving: Moving, asked: dict[str, object]) -> None:
    """Every picture is blended with the one shown before it, whatever the delay; on a still input by hand."""
    still = [Frame(moving(0).pixels, PixelFormat.BGRX, i / 30, i) for i in range(7)]
    plain = finished(*make_stream(seed_mode="random", **asked), still)
    steady = finished(*make_stream(seed_mode="random", steadiness=0.5, **asked), still)
    assert [frame.index for frame in steady] == list(range(7))
    expected = plain[0].pixels.astype(float)
    for raw, shown in zip(plain, steady, strict=True):
        expected += (1 - STRONGEST * 0.5) * (raw.pixels - expected)
        assert np.abs(shown.pixels - expected)[..., :3].mean() < 1.0


def test_moving_frames_come_out_alike_whatever_the_delay(make_stream: Make, moving: Moving) -> None:
    frames = [moving(i) for i in range(6)]
    asked = {"steps": 3, "steadiness": 1.0, "mix": 0.8}
    batched = finished(*make_stream(**asked), frames)
    alone = finished(*make_stream(stream_batch=False, **asked), frames)
    unsteadied = finished(*make_stream(**{**asked, "steadiness": 0}), frames)
    for a, b in zip(batched, alone, strict=True):
        assert np.abs(a.pixels.astype(int) - b.pixels).max() <= 1
    assert not np.array_equal(batched[5].pixels, unsteadied[5].pixels)


def test_no_latent_feels_it_and_turned_off_it_leaves_nothing_behind(make_stream: Make, moving: Moving) -> None:
    latents: list[dict[int, Tensor]] = [{}, {}]
    out: list[list[Frame]] = [[], []]
    for run, amount in enumerate((0.0, 1.0)):
        stream, values = make_stream(steps=2, feedback=0.3, seed_mode="random")
        stream.watch_latent = latents[run].__setitem__
        for i in range(12):
            values.set("steadiness", amount if i < 6 else 0.0)
            values.jump()
            out[run] += stream.step(moving(i), values.snapshot(1 / 30))
    assert all(torch.equal(latents[0][i], latents[1][i]) for i in range(11))
    assert not np.array_equal(out[0][3].pixels, out[1][3].pixels)
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(out[0][6:], out[1][6:], strict=True))


def test_at_nought_nothing_is_computed(make_stream: Make, moving: Moving) -> None:
    stream, values = make_stream(steadiness=0)
    finished(stream, values, [moving(i) for i in range(3)])
    assert "steady" not in stream.stage_ms()
    values.set("steadiness", 1)
    values.jump()
    finished(stream, values, [moving(i) for i in range(3, 6)])
    assert "steady" in stream.stage_ms()


def test_sizes_modes_and_resets_while_it_steadies(make_stream: Make, moving: Moving) -> None:
    stream, values = make_stream(steps=2, steadiness=1.0)
    turns: dict[int, dict[str, object]] = {
        3: {"width": 96, "height": 128}, 6: {"mode": "text_to_image"}, 9: {"mode": "image_to_image"}, 12: {"fit": "letterbox"},
        15: {"steps": 1}, 18: {"steps": 4}, 21: {"steps": 1},
    }  # fmt: skip
    out: list[Frame] = []
    for i in range(24):
        values.set_many(turns.get(i, {}))
        values.jump()
        out += stream.step(moving(i, width=64 + 16 * (i % 2)), values.snapshot(1 / 30))
    out += stream.flush(values.snapshot(1 / 30))
    assert [frame.index for frame in out] == list(range(24))
    stream.reset()
    first = stream.step(moving(0), values.snapshot(0.0))[0]
    plain, same = make_stream(steps=1, width=96, height=128, fit="letterbox")
    assert np.array_equal(first.pixels, plain.step(moving(0), same.snapshot(0.0))[0].pixels)
