"""The image stream: every frame comes out as if it had been denoised alone, in order, with its own time, whatever is turned."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.control.live_values import LiveValues
from engine.frames import Frame, PixelFormat
from engine.gpu.transfer import Download, Transfer
from engine.pipelines.image_stream import ImageStream

Make = Callable[..., tuple[ImageStream, LiveValues]]
Moving = Callable[..., Frame]


def run(stream: ImageStream, values: LiveValues, frames: list[Frame]) -> tuple[list[Frame], dict[int, Tensor]]:
    """All finished frames and, by index, the finished latents."""
    latents: dict[int, Tensor] = {}
    stream.watch_latent = latents.__setitem__
    out = [done for frame in frames for done in stream.step(frame, values.snapshot(1 / 30))]
    return out + stream.flush(values.snapshot(1 / 30)), latents


def each_alone(stream: ImageStream, values: LiveValues, frames: list[Frame]) -> dict[int, Tensor]:
    """Every frame through a fresh start of its own."""
    latents: dict[int, Tensor] = {}
    for frame in frames:
        stream.reset()
        stream.watch_latent = latents.__setitem__
        stream.step(frame, values.snapshot(0.0))
        stream.flush(values.snapshot(0.0))
    return latents


@pytest.mark.parametrize("guidance", ["none", "self", "onetime", "full"])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_stream_batch_is_each_frame_alone(make_stream: Make, moving: Moving, guidance: str, steps: int) -> None:
    asked = {"steps": steps, "guidance": guidance, "guidance_scale": 1.6, "delta": 0.7, "negative_prompt": "oil"}
    frames = [moving(i) for i in range(7)]
    out, batched = run(*make_stream(**asked), frames)
    alone = each_alone(*make_stream(**asked), frames)
    assert [frame.index for frame in out] == list(range(7))
    for i in range(7):
        torch.testing.assert_close(batched[i], alone[i], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", ["sd21", "sdxl", "ip2p", "flow", "lcm"])
def test_the_same_for_every_family(make_stream: Make, moving: Moving, kind: str) -> None:
    asked = {"steps": 3, "guidance": "onetime", "guidance_scale": 1.4, "mix": 0.8}
    frames = [moving(i) for i in range(5)]
    out, batched = run(*make_stream(kind, **asked), frames)
    alone = each_alone(*make_stream(kind, **asked), frames)
    assert [frame.index for frame in out] == list(range(5))
    for i in range(5):
        torch.testing.assert_close(batched[i], alone[i], atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize(("together", "steps"), [(2, 1), (2, 3), (3, 2)])
@pytest.mark.parametrize("guidance", ["none", "onetime", "full"])
def test_several_frames_a_call_with_several_steps(
    make_stream: Make, moving: Moving, together: int, steps: int, guidance: str
) -> None:
    asked = {"steps": steps, "guidance": guidance, "guidance_scale": 1.5}
    frames = [moving(i) for i in range(7)]
    out, batched = run(*make_stream(frame_buffer=together, **asked), frames)
    alone = each_alone(*make_stream(**asked), frames)
    assert [frame.index for frame in out] == list(range(7))
    for i in range(7):
        torch.testing.assert_close(batched[i], alone[i], atol=1e-4, rtol=1e-3)


def test_without_stream_batch_a_frame_comes_out_at_once_and_is_the_same(make_stream: Make, moving: Moving) -> None:
    asked = {"steps": 3, "guidance": "self", "guidance_scale": 1.6}
    frames = [moving(i) for i in range(4)]
    stream, values = make_stream(stream_batch=False, **asked)
    latents: dict[int, Tensor] = {}
    stream.watch_latent = latents.__setitem__
    for frame in frames:
        assert [done.index for done in stream.step(frame, values.snapshot(0.0))] == [frame.index]
    _, batched = run(*make_stream(**asked), frames)
    for i in range(4):
        torch.testing.assert_close(latents[i], batched[i], atol=1e-4, rtol=1e-3)


def test_guidance_works_without_stream_batch(make_stream: Make, moving: Moving) -> None:
    """The original's residual stayed 0 there, so that guidance only scaled the prediction."""
    results = {}
    for kind in ("none", "self", "onetime", "full"):
        _, latents = run(*make_stream(stream_batch=False, steps=2, guidance=kind, guidance_scale=1.8), [moving(0)])
        results[kind] = latents[0]
    kinds = list(results)
    assert all(not torch.allclose(results[a], results[b], atol=1e-4) for i, a in enumerate(kinds) for b in kinds[:i])


@pytest.mark.parametrize("step_list", [(999,), (799,), (399,), (359,), (299,), (99,), (359, 99), (999, 679, 359, 99)])
@pytest.mark.parametrize("add_noise", [True, False])
def test_a_long_still_picture_with_residual_guidance_stays_bounded(
    make_stream: Make, moving: Moving, step_list: tuple[int, ...], add_noise: bool
) -> None:
    stream, values = make_stream(step_list=step_list, guidance="self", guidance_scale=1.2, delta=1.0, add_noise=add_noise)
    _, latents = run(stream, values, [Frame(moving(0).pixels, PixelFormat.BGRX, 0.0, i) for i in range(60)])
    torch.testing.assert_close(latents[59], latents[0], atol=1e-3, rtol=1e-3)


def test_the_first_output_is_the_first_frame_finished(make_stream: Make, moving: Moving) -> None:
    stream, values = make_stream(steps=4)
    (first,) = stream.step(moving(0), values.snapshot(0.0))
    assert (first.index, first.captured_at) == (0, 0.0)
    again, fresh = make_stream(steps=4, stream_batch=False)
    assert np.array_equal(first.pixels, again.step(moving(0), fresh.snapshot(0.0))[0].pixels)


def test_each_output_carries_its_own_time_and_index(make_stream: Make, moving: Moving) -> None:
    stream, values = make_stream(steps=4)
    out, _ = run(stream, values, [moving(i) for i in range(8)])
    assert [(frame.index, frame.captured_at) for frame in out] == [(i, i / 30.0) for i in range(8)]


def test_turning_everything_while_it_runs_breaks_no_frame(make_stream: Make, moving: Moving) -> None:
    turns: list[dict[str, object]] = [
        {}, {"steps": 4}, {}, {"guidance": "full", "guidance_scale": 2.0}, {"prompt": "oil cat"}, {"steps": 1}, {},
        {"guidance": "onetime"}, {"guidance_scale": 1.0}, {"step_list": (700, 300)}, {"strength": 0.2}, {"step_list": ()},
        {"guidance": "self", "steps": 3, "guidance_scale": 1.5}, {"frame_buffer": 2}, {}, {}, {"frame_buffer": 1},
        {"stream_batch": False}, {"stream_batch": True}, {"width": 96, "height": 128}, {}, {"seed": 9}, {"seed_mode": "travel"},
        {"cross_frame_attention": True}, {}, {"mix": 0.5, "feedback": 0.3}, {}, {"mode": "text_to_image"}, {},
        {"mode": "image_to_image", "negative_prompt": "water"}, {"step_method": "euler"}, {}, {"width": 64, "height": 64}, {},
    ]  # fmt: skip
    stream, values = make_stream(steps=2)
    out: list[Frame] = []
    for i, turn in enumerate(turns):
        values.set_many(turn)
        values.jump()
        out += stream.step(moving(i), values.snapshot(1 / 30))
    out += stream.flush(values.snapshot(1 / 30))
    assert [frame.index for frame in out] == list(range(len(turns)))
    assert {frame.pixels.shape for frame in out} == {(64, 64, 4), (128, 96, 4)}
    assert all(frame.pixels[..., :3].std() > 1.0 for frame in out)


def test_a_frame_keeps_what_it_entered_with(make_stream: Make, moving: Moving) -> None:
    """Turned between two frames, a knob changes the second and leaves the first, still in flight, as it was."""
    before = {"steps": 3, "strength": 0.5, "prompt": "a cat"}
    after = {"strength": 0.9, "prompt": "oil"}
    stream, values = make_stream(**before)
    latents: dict[int, Tensor] = {}
    stream.watch_latent = latents.__setitem__
    for i in range(4):
        stream.step(moving(i), values.snapshot(0.0))
    values.set_many(after)
    values.jump()
    for i in range(4, 8):
        stream.step(moving(i), values.snapshot(0.0))
    stream.flush(values.snapshot(0.0))
    old = each_alone(*make_stream(**before), [moving(3)])
    new = each_alone(*make_stream(**{**before, **after}), [moving(4)])
    torch.testing.assert_close(latents[3], old[3], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(latents[4], new[4], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("guidance", ["onetime", "full"])
def test_the_negative_prompt_takes_effect_also_in_a_blend(make_stream: Make, moving: Moving, guidance: str) -> None:
    blend = {"prompt_2": "oil", "prompt_2_weight": 0.5, "guidance": guidance, "guidance_scale": 2.0, "steps": 2}
    results = [run(*make_stream(negative_prompt=text, **blend), [moving(0)])[1][0] for text in ("", "water cat", "a")]
    assert not torch.allclose(results[0], results[1], atol=1e-4)
    assert not torch.allclose(results[1], results[2], atol=1e-4)


@pytest.mark.parametrize("mode", ["image_to_image", "text_to_image"])
def test_seeds_decide_the_noise_and_reproduce(make_stream: Make, moving: Moving, mode: str) -> None:
    pictures = [run(*make_stream(mode=mode, seed=seed, steps=2), [moving(0)])[0][0].pixels for seed in (1, 1, 2)]
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


def test_random_seeds_differ_from_frame_to_frame_and_reproduce(make_stream: Make, moving: Moving) -> None:
    still = [Frame(moving(0).pixels, PixelFormat.BGRX, i / 30, i) for i in range(3)]
    first, second = (run(*make_stream(seed_mode="random"), still)[0] for _ in range(2))
    assert not np.array_equal(first[0].pixels, first[1].pixels)
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(first, second, strict=True))


def test_strength_nought_returns_the_input_through_the_autoencoder(make_stream: Make, moving: Moving, loaded) -> None:  # type: ignore[no-untyped-def]
    from engine.images.pixel_formats import to_bgra, to_rgb
    from engine.models.autoencoder import Autoencoder

    autoencoder = Autoencoder.of(loaded("sd15"))
    rgb, _ = to_rgb(torch.from_numpy(moving(0).pixels[None].copy()), PixelFormat.BGRX, torch.float32)
    with torch.inference_mode():
        expected = to_bgra(autoencoder.decode(autoencoder.encode(rgb)))[0].numpy()
    for guidance in ("none", "self", "onetime", "full"):
        out, _ = run(*make_stream(strength=0.0, steps=3, guidance=guidance, guidance_scale=3.0), [moving(0)])
        assert np.abs(out[0].pixels.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("level", [128, 160, 191, 255])
def test_a_bright_picture_keeps_its_brightness(make_stream: Make, level: int) -> None:
    """The original stretched any picture without dark pixels: grey 191 arrived at the encoder as 0."""
    stream, values = make_stream()
    seen: list[Tensor] = []
    encode = stream._step.autoencoder.encode
    stream._step.autoencoder.encode = lambda rgb: (seen.append(rgb), encode(rgb))[1]  # type: ignore[method-assign]
    stream.step(Frame(np.full((64, 64, 4), level, np.uint8), PixelFormat.BGRX, 0.0, 0), values.snapshot(0.0))
    assert float((seen[0] - (level / 127.5 - 1.0)).abs().max()) < 1e-6


def test_a_still_picture_settles_while_frames_are_skipped(make_stream: Make, moving: Moving) -> None:
    stream, values = make_stream(steps=4, similarity_filter=True, similarity_threshold=0.9, similarity_max_skip=1000)
    out: list[Frame] = []
    for i in range(6):
        out += stream.step(moving(20 * i), values.snapshot(0.0))
    still = moving(100)
    for i in range(101, 140):
        out += stream.step(Frame(still.pixels, PixelFormat.BGRX, i / 30, i), values.snapshot(0.0))
    assert [frame.index for frame in out][:6] == [0, 20, 40, 60, 80, 100]
    assert stream.in_flight == 0
    assert stream.skipped == 39


def test_a_picture_of_any_size_is_fitted_and_odd_output_sizes_are_kept(make_stream: Make, moving: Moving) -> None:
    stream, values = make_stream(output_size=(101, 57))
    for i, (width, height) in enumerate([(64, 64), (97, 33), (33, 97), (30, 30)]):
        (done,) = stream.step(moving(i, width=width, height=height), values.snapshot(0.0))
        assert done.pixels.shape == (57, 101, 4)


def test_alpha_is_kept(make_stream: Make, moving: Moving) -> None:
    ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
    pixels = moving(0).pixels.copy()
    pixels[..., 3] = ramp
    for steps in (1, 3):
        stream, values = make_stream(steps=steps)
        out, _ = run(stream, values, [Frame(pixels, PixelFormat.BGRA, 0.0, i) for i in range(4)])
        assert len(out) == 4
        assert all(frame.format is PixelFormat.BGRA and np.array_equal(frame.pixels[..., 3], ramp) for frame in out)


def test_dry_is_the_input_of_the_same_moment(make_stream: Make, moving: Moving) -> None:
    stream, values = make_stream(steps=4, mix=0.0)
    out, _ = run(stream, values, [moving(i) for i in range(7)])
    for frame in out:
        assert np.abs(frame.pixels[..., :3].astype(int) - moving(frame.index).pixels[..., :3]).max() <= 1


def test_text_to_image_goes_on_without_input(make_stream: Make) -> None:
    stream, values = make_stream(mode="text_to_image", steps=2, seed_mode="travel", seed_travel_rate=5)
    out: list[Frame] = []
    for _ in range(5):
        out += stream.step(None, values.snapshot(1 / 30))
    out += stream.flush(values.snapshot(1 / 30))
    assert [frame.index for frame in out] == list(range(5))
    assert all(frame.captured_at == 123.0 for frame in out)
    assert not np.array_equal(out[0].pixels, out[4].pixels)


def test_without_input_the_picture_is_held_or_dreamt_on(make_stream: Make, moving: Moving) -> None:
    stream, values = make_stream(seed_mode="random")
    assert len(stream.step(moving(0), values.snapshot(0.0))) == 1
    assert stream.step(None, values.snapshot(0.0)) == []
    values.set("without_input", "dream")
    stream.step(moving(1), values.snapshot(0.0))
    dreamt = [stream.step(None, values.snapshot(0.0))[0] for _ in range(3)]
    assert [frame.index for frame in dreamt] == [2, 3, 4]
    assert not np.array_equal(dreamt[0].pixels, dreamt[1].pixels)


class SlowTransfer(Transfer):
    """Pictures that come when they are asked for by force, or after `there` is set."""

    there = False

    def download(self, pictures: Tensor, marks: Tensor) -> Download:
        download = super().download(pictures, marks)
        download._arrived = SimpleNamespace(query=lambda: self.there, synchronize=lambda: None)
        return download


def test_a_call_may_be_under_way_and_nothing_is_lost(make_stream: Make, moving: Moving) -> None:
    plain, same = make_stream(steps=2)
    frames = [moving(i) for i in range(6)]
    expected, _ = run(plain, same, frames)
    ahead, values = make_stream(overlap=1, steps=2)
    ahead._transfer = slow = SlowTransfer(torch.device("cpu"))
    assert ahead.step(frames[0], values.snapshot(1 / 30)) == []
    assert ahead.arriving and ahead.arrived() == []
    rest, _ = run(ahead, values, frames[1:])
    assert [frame.index for frame in rest] == list(range(6))
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(rest, expected, strict=True))
    ahead.step(moving(6), values.snapshot(0.0))
    slow.there = True
    assert [frame.index for frame in ahead.arrived()] == [6] and not ahead.arriving


def test_a_picture_without_numbers_is_never_shown(make_stream: Make, moving: Moving) -> None:
    """float16 that overflows, a broken checkpoint: the frame is left out and told, the frames around it come as they should."""
    stream, values = make_stream(steps=2)
    network = stream._step.denoiser.__call__
    calls = 0

    class Broken:
        def __getattr__(self, name: str) -> object:
            return getattr(denoiser, name)

        def __call__(self, *asked: object, **named: object) -> Tensor:
            nonlocal calls
            calls += 1
            out = network(*asked, **named)  # type: ignore[arg-type]
            return out * float("nan") if calls == 4 else out

    denoiser, stream._step.denoiser = stream._step.denoiser, Broken()  # type: ignore[assignment]
    out, _ = run(stream, values, [moving(i) for i in range(7)])
    assert [frame.index for frame in out] == [0, 3, 4, 5, 6]
    assert "no numbers" in stream.problems()[0] and stream.problems() == []
    assert all(frame.pixels[..., :3].std() > 1.0 for frame in out)


def test_another_shape_of_output_is_fitted_and_not_distorted(make_stream: Make) -> None:
    y, x = np.mgrid[:128, :256]
    disc = ((x - 128) ** 2 + (y - 64) ** 2 < 20**2).astype(np.uint8)[..., None] * 255
    circle = np.repeat(disc, 4, axis=2)
    for fit in ("fill", "fit", "letterbox"):
        stream, values = make_stream(mix=0.0, fit=fit, output_size=(256, 128), width=128, height=128)
        (done,) = stream.step(Frame(circle, PixelFormat.BGRX, 0.0, 0), values.snapshot(0.0))
        lit = np.argwhere(done.pixels[..., 1] > 127)
        height, width = np.ptp(lit, axis=0) + 1
        assert abs(width - height) <= 2, fit


def test_turning_a_knob_over_a_still_picture_is_seen_at_the_next_frame(make_stream: Make, moving: Moving) -> None:
    stream, values = make_stream(similarity_filter=True, similarity_threshold=0.9, similarity_max_skip=10_000)

    def outputs(count: int) -> int:
        return sum(len(stream.step(moving(0), values.snapshot(0.1))) for _ in range(count))

    assert outputs(20) == 1
    for turn in ({"strength": 0.3}, {"prompt": "oil"}, {"seed": 8}, {"guidance": "self"}):
        values.set_many(turn)
        values.jump()
        assert outputs(1) == 1, turn
        assert outputs(10) == 0, turn
    values.set("mode", "text_to_image")
    assert outputs(10) == 10


def test_the_filter_settles_with_several_frames_a_call(make_stream: Make, moving: Moving) -> None:
    stream, values = make_stream(similarity_filter=True, similarity_threshold=0.9, similarity_max_skip=10_000, frame_buffer=2, steps=3)
    out = [done.index for i in range(5) for done in stream.step(moving(20 * i), values.snapshot(0.0))]
    for _ in range(20):
        out += [done.index for done in stream.step(moving(80), values.snapshot(0.0))]
    assert out == [0, 20, 40, 60, 80] and stream.in_flight == 0


def test_a_dream_begins_from_the_last_input_survives_a_reset_and_never_repeats_an_index(make_stream: Make, moving: Moving) -> None:
    stream, values = make_stream()
    indices = [done.index for i in range(2) for done in stream.step(moving(i), values.snapshot(0.0))]
    values.set("without_input", "dream")
    indices += [done.index for _ in range(3) for done in stream.step(None, values.snapshot(0.0))]
    indices += [done.index for done in stream.step(moving(2), values.snapshot(0.0))]
    assert indices == [0, 1, 2, 3, 4, 5]
    stream.reset()
    assert len(stream.step(None, values.snapshot(0.0))) == 1


def test_travel_sets_out_from_the_seed_when_it_is_turned_on(make_stream: Make, moving: Moving) -> None:
    stream, values = make_stream(seed_travel_rate=1.0)
    fixed = stream.step(moving(0), values.snapshot(100.0))[0].pixels
    values.set("seed_mode", "travel")
    first = stream.step(moving(0), values.snapshot(0.0))[0].pixels
    later = stream.step(moving(0), values.snapshot(0.5))[0].pixels
    assert np.array_equal(fixed, first)
    assert not np.array_equal(first, later)


def test_a_weight_acts_at_once_whatever_the_fade(make_stream: Make, moving: Moving) -> None:
    stream, values = make_stream(prompt_fade=60.0, prompt_2="oil water")
    before = stream.step(moving(0), values.snapshot(0.1))[0].pixels
    values.set_many({"prompt_weight": 0.0, "prompt_2_weight": 1.0})
    values.jump()
    after = stream.step(moving(0), values.snapshot(0.1))[0].pixels
    fresh, asked = make_stream(prompt="oil water")
    assert not np.array_equal(before, after)
    assert np.array_equal(after, fresh.step(moving(0), asked.snapshot(0.1))[0].pixels)
    values.set_many({"prompt_2_weight": 0.0})
    values.jump()
    assert np.array_equal(after, stream.step(moving(0), values.snapshot(0.1))[0].pixels)


def test_cross_frame_attention_lets_frames_see_each_other(make_stream: Make, moving: Moving) -> None:
    frames = [moving(5 * i) for i in range(5)]
    _, apart = run(*make_stream(steps=2), frames)
    _, joined = run(*make_stream(steps=2, cross_frame_attention=True), frames)
    torch.testing.assert_close(joined[0], apart[0])
    assert not torch.allclose(joined[10], apart[10], atol=1e-4)
    still = [Frame(frames[0].pixels, PixelFormat.BGRX, 0.0, i) for i in range(3)]
    _, one_step = run(*make_stream(steps=1, frame_buffer=3, cross_frame_attention=True), still)
    _, single = run(*make_stream(steps=1), still)
    torch.testing.assert_close(one_step[1], single[1], atol=1e-5, rtol=1e-4)


def test_a_changed_prompt_fades_in_over_time(make_stream: Make, moving: Moving) -> None:
    stream, values = make_stream(prompt_fade=1.0)
    still = moving(0)

    def picture(dt: float) -> np.ndarray:  # type: ignore[type-arg]
        return stream.step(Frame(still.pixels, PixelFormat.BGRX, 0.0, 0), values.snapshot(dt))[0].pixels.astype(int)

    old = picture(0.0)
    values.set("prompt", "oil water")
    course = [picture(dt) for dt in (0.0, 0.25, 0.25, 0.25, 0.3, 0.3)]
    distance = [np.abs(p - old).mean() for p in course]
    assert distance[0] == 0.0
    assert distance[1] > 0.0
    assert distance == sorted(distance)
    assert np.array_equal(course[-1], course[-2])
    fresh, asked = make_stream(prompt="oil water")
    expected = fresh.step(Frame(still.pixels, PixelFormat.BGRX, 0.0, 0), asked.snapshot(0.0))[0].pixels
    assert np.array_equal(course[-1], expected)
