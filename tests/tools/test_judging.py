"""The judge's measures against closed forms and library classes, and its pictures against the engine's own stream."""

import json
import math
import re
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
import yaml
from embedded.looks import DRAWN
from judging.autoencoder import psnr
from judging.catalogue import concept
from judging.features import distances, gram
from judging.flicker import MovingClip, optical_flow, sampled, visible, warp_error
from judging.painter import Painter
from judging.pictures import held_out_photos, square
from judging.report import Figures, markdown, write
from judging.structure import direction, edge_f1, edges, luminance, mean_pairwise, ssim
from judging.style_space import StyleSpace, nearest, ranks, statistics, unit
from judging.text import first_hits, held_out_prompts

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "engine" / "models" / "embedded"
WORDS = ROOT / "tools" / "embedded" / "words"
Picture = npt.NDArray[np.uint8]


def plain(text: str) -> str:
    """Letters and digits of a prompt in lower case, single spaces between words."""
    return " ".join(re.findall(r"\w+", text.lower()))


def shifted(picture: Picture, across: int, down: int) -> Picture:
    return np.asarray(np.roll(picture, (down, across), axis=(0, 1)))


@pytest.fixture(scope="module")
def textured() -> Picture:
    """Smooth coloured noise [256, 256, 3], which optical flow can follow everywhere."""
    noise = np.random.default_rng(0).normal(size=(256, 256, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4, borderType=cv2.BORDER_REFLECT)
    return np.asarray(np.clip(128 + 40 * smooth / smooth.std(), 0, 255), dtype=np.uint8)


def test_the_gram_of_constant_channels_is_their_products() -> None:
    values = torch.tensor([1.0, -2.0, 3.0])
    found = gram(values.view(1, 3, 1, 1).expand(1, 3, 5, 7))
    torch.testing.assert_close(found[0], torch.outer(values, values))


def test_statistics_are_the_mean_deviation_and_covariance_that_numpy_finds() -> None:
    drawn = torch.randn((1, 3, 6, 9), generator=torch.Generator().manual_seed(0))
    means, deviations, upper = statistics(drawn)
    flat = drawn[0].flatten(1).numpy()
    covariance = np.cov(flat, bias=True)
    np.testing.assert_allclose(means[0], flat.mean(1), atol=1e-6)
    np.testing.assert_allclose(deviations[0], flat.std(1), rtol=1e-5)
    wanted = covariance[np.triu_indices(3)]
    np.testing.assert_allclose(upper[0].sign() * upper[0] ** 2, wanted, atol=1e-6)


def test_distance_is_0_for_equal_2_for_orthogonal_and_4_for_opposite_directions() -> None:
    one, other = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1), torch.tensor([0.0, 7.0]).view(1, 2, 1, 1)
    assert [float(distances([one], [b])) for b in (3 * one, other, -one)] == pytest.approx([0, 2, 4])


def test_the_style_space_drops_scale_and_offset_of_every_feature() -> None:
    drawn = np.random.default_rng(1)
    examples = drawn.normal(size=(50, 6)).astype(np.float32)
    taught = examples[:, None] + drawn.normal(size=(50, 4, 6)).astype(np.float32) * 0.01
    stretch, offset = np.float32([1, 10, 100, 1000, 1, 5]), np.float32([5, 0, -3, 200, 7, 1])
    known = StyleSpace.of(examples * stretch, taught * stretch + offset, [2, 4])
    ranked = ranks(known.picture(taught * stretch + offset), known.example(examples * stretch), range(50))
    assert nearest(ranked) == {"nearest 1": 1.0, "nearest 5": 1.0}
    assert np.allclose(np.linalg.norm(known.example(examples), axis=1), 1, atol=1e-5)


def test_ranks_count_the_references_that_are_nearer_than_the_right_one() -> None:
    angles = np.radians([0, 10, 20, 30, 40, 50, 60])
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = ranks(circle[:1][None], circle, [6])
    assert found.tolist() == [[6]]
    assert ranks(circle[:, None], circle, range(7)).max() == 0
    assert nearest(np.array([[0, 1, 4, 5]])) == {"nearest 1": 0.25, "nearest 5": 0.75}
    assert np.array_equal(unit(np.zeros((1, 2), np.float32)), np.zeros((1, 2)))


def test_ssim_is_1_for_equal_pictures_and_follows_its_formula_for_flat_ones(scene: Picture) -> None:
    grey = luminance(scene)
    assert ssim(grey, grey) == pytest.approx(1)
    a, b, c1 = 60.0, 180.0, (0.01 * 255) ** 2
    assert ssim(np.full((64, 64), a), np.full((64, 64), b)) == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1), abs=1e-6)
    rough = grey + np.random.default_rng(0).normal(0, 25, grey.shape)
    assert ssim(grey, rough) < 0.6 < ssim(grey, cv2.GaussianBlur(grey, (0, 0), 0.5))


def test_edges_within_the_tolerance_count_and_those_beyond_do_not() -> None:
    line = np.zeros((40, 40), bool)
    line[:, 20] = True
    assert edge_f1(line, np.roll(line, 2, axis=1)) == 1.0
    assert edge_f1(line, np.roll(line, 3, axis=1)) == 0.0
    both = line | np.roll(line, 10, axis=1)
    assert edge_f1(line, both) == pytest.approx(2 / 3)  # all found, half of it wrong
    assert edge_f1(np.zeros_like(line), np.zeros_like(line)) == 1.0 and edge_f1(line, np.zeros_like(line)) == 0.0


def test_canny_finds_the_border_of_a_square_and_nothing_else() -> None:
    picture = np.full((64, 64, 3), 40, np.uint8)
    picture[20:44, 20:44] = 220
    y, x = np.nonzero(edges(picture))
    border = np.maximum(abs(y - 31.5), abs(x - 31.5))
    assert len(y) > 70 and border.min() > 9 and border.max() < 15


def test_pairwise_distance_direction_and_psnr_follow_their_formulas() -> None:
    assert mean_pairwise(torch.tensor([[0.0, 0.0], [3.0, 3.0], [0.0, 0.0]])) == pytest.approx(2.0)
    assert [direction(v) for v in ([3, 2, 2], [1, 2, 3], [1, 3, 2])] == ["falls throughout", "rises throughout", "is not monotone"]
    black, grey = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 51, np.uint8)
    assert psnr(black, grey) == pytest.approx(20 * math.log10(5)) and psnr(black, black) == math.inf


def test_a_pure_translation_has_no_warp_error_and_its_places_are_visible(textured: Picture) -> None:
    later = shifted(textured, 3, -2)
    backward, forward = optical_flow(later, textured), optical_flow(textured, later)
    mask = visible(backward, forward)
    inner = np.s_[16:-16, 16:-16]
    assert np.abs(backward[inner] - (-3, 2)).max() < 0.5 and mask[inner].mean() > 0.98
    unwarped = float(np.abs(later.astype(float) - textured).mean() / 255)
    kept = np.zeros_like(mask)
    kept[inner] = mask[inner]
    assert warp_error(textured, later, backward, kept) < 0.05 * unwarped
    brighter = np.clip(later.astype(int) + 20, 0, 255).astype(np.uint8)
    assert warp_error(textured, brighter, backward, kept) == pytest.approx(20 / 255, rel=0.1)


def test_places_that_come_into_view_are_masked() -> None:
    backward = np.zeros((32, 32, 2), np.float32)
    backward[..., 0] = -4
    seen = visible(backward, -backward)
    assert not seen[:, :4].any() and seen[:, 4:].all()
    forward = -backward
    forward[10:20, 10:20] = -5  # something else moved there
    assert not visible(backward, forward)[10:20, 14:24].any()
    ramp = np.tile(np.arange(32, dtype=np.float32)[:, None], (1, 32))[..., None]
    assert np.allclose(sampled(ramp, np.full((32, 32, 2), 0.5, np.float32))[:31].squeeze(), ramp[:31, :, 0] + 0.5)


def test_a_still_clip_flickers_by_exactly_what_its_pictures_change(textured: Picture) -> None:
    frames = np.stack([textured] * 3)
    still = [(np.zeros((256, 256, 2), np.float32), np.ones((256, 256), bool))] * 2
    clip = MovingClip("still", frames, still)
    blinking = np.stack([np.full_like(textured, value) for value in (100, 151, 100)])
    assert clip.error(frames) == 0 and clip.error(blinking) == pytest.approx(51 / 255)


def test_photos_come_from_a_folder_and_are_cut_square_in_the_middle(tmp_path: Path) -> None:
    wide = np.zeros((100, 300, 3), np.uint8)
    wide[:, 100:200] = 200
    assert square(wide, 64).min() == 200
    for i in range(2):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((300, 400, 3), 50 * i, np.uint8))
    photos = held_out_photos(tmp_path, tmp_path, count=2)
    assert photos.shape == (2, 256, 256, 3) and [int(photo.max()) for photo in photos] == [0, 50]
    with pytest.raises(ValueError, match="holds 2 pictures"):
        held_out_photos(tmp_path, tmp_path, count=3)
    with pytest.raises(ValueError, match="no .mp4"):
        held_out_photos(tmp_path, None, count=1)


def test_one_style_in_several_collections_is_one_concept() -> None:
    assert concept("sd35 style/Art Deco") == concept("sdxl style/artstyle-art deco") == concept("sdxl style/Art Deco")
    assert concept("look/watercolor") == concept("sdxl style/Watercolor 2") != concept("look/oil painting")
    assert concept("painting/starry_night_crop") == concept("painting/starry_night") != concept("painting/sketch")
    assert concept("visual/milkdrop 3") == concept("visual/milkdrop 0")


def test_a_hit_on_the_same_concept_counts_and_the_place_is_that_of_the_best() -> None:
    keys = ["look/mosaic", "sd35 style/Batik", "sdxl style/MK mosaic", "look/gold"]
    likeness = np.array([[0.1, 0.5, 0.9, 0.2], [0.9, 0.1, 0.8, 0.2]], np.float32)
    assert first_hits(likeness, keys, ["look/mosaic", "look/gold"]) == [0, 2]


def test_enough_held_out_prompts_for_enough_styles_and_none_twice() -> None:
    asked = held_out_prompts()
    prompts = [plain(prompt) for _, prompt in asked]
    assert len(prompts) >= 150 and len({key for key, _ in asked}) >= 120
    assert len(set(prompts)) == len(prompts)
    names = {f"look/{look.name}" for look in DRAWN}
    assert {key for key, _ in asked if key.startswith("look/")} <= names


def texts(node: object) -> list[str]:
    """Every text in a YAML document, keys too."""
    if isinstance(node, dict):
        return [text for pair in node.items() for part in pair for text in texts(part)]
    return [text for part in node for text in texts(part)] if isinstance(node, list) else [str(node)]


def test_no_held_out_prompt_occurs_in_a_training_phrase() -> None:
    trained = {plain(phrase) for look in DRAWN for phrase in look.prompts}
    for path in WORDS.glob("*.yaml"):
        trained |= {plain(text) for text in texts(yaml.safe_load(path.read_text(encoding="utf-8")))}
    common = [prompt for _, prompt in held_out_prompts() if any(f" {plain(prompt)} " in f" {phrase} " for phrase in trained)]
    assert trained and not common


def test_markdown_has_a_line_for_every_row_and_escapes_bars() -> None:
    lines = markdown(Figures("Title", ("a", "b"), [["x|y", 0.5], [None, 3]], ["note"])).splitlines()
    assert lines[0] == "## Title" and lines[4:6] == ["| x\\|y | 0.500 |", "|  | 3 |"] and "* note" in lines


def shown_by_the_engine(photo: Picture | None, **asked: str | float) -> Picture:
    """What the running program makes of one photo, or of none, at 256 x 256 in float32."""
    from engine.control.live_values import LiveValues
    from engine.frames import Frame, PixelFormat
    from engine.pipelines.image_build import build_image_stream
    from engine.settings import Settings

    values = LiveValues()
    values.set_many({"width": 256, "height": 256, "guidance": "none", "seed": 3, "prompt": "starry night", **asked})
    values.jump()
    settings = Settings(model=str(MODEL), device="cpu", dtype="float32", accelerate="none")
    stream = build_image_stream(settings, values.snapshot(0.0), live=False)
    frame = None
    if photo is not None:
        bgrx = np.ascontiguousarray(np.concatenate([photo[..., ::-1], np.zeros_like(photo[..., :1])], axis=2))
        frame = Frame(bgrx, PixelFormat.BGRX, 0.0, 0)
    (shown,) = stream.step(frame, values.snapshot(0.0)) + stream.flush(values.snapshot(0.0))
    return np.asarray(shown.pixels)[..., 2::-1]


def test_a_report_keeps_what_an_earlier_run_on_the_same_model_measured(tmp_path: Path) -> None:
    one, two = ([Figures(title, ("a",), [[value]])] for title, value in (("first", 1.0), ("second", 2.0)))
    write(tmp_path, {"weights": "x"}, {"style": one})
    write(tmp_path, {"weights": "x"}, {"text": two})
    read = json.loads((tmp_path / "judge.json").read_text())
    assert read["sections"]["style"][0]["rows"] == [[1.0]] and read["sections"]["text"][0]["rows"] == [[2.0]]
    assert "| 1.000 |" in (tmp_path / "judge.md").read_text()
    write(tmp_path, {"weights": "y"}, {"text": two})
    assert set(json.loads((tmp_path / "judge.json").read_text())["sections"]) == {"text"}


@pytest.mark.skipif(not (MODEL / "model_index.json").exists(), reason="the embedded model has not been exported yet")
@pytest.mark.parametrize(("strength", "steps", "with_photo"), [(1.0, 1, True), (0.5, 1, True), (1.0, 2, True), (1.0, 2, False)])
def test_the_engine_shows_the_picture_that_is_judged(
    scene: Picture, strength: float, steps: int, with_photo: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    painter = Painter(MODEL, fast=False)
    content = painter.encoded(scene[None])
    if with_photo:
        shown = shown_by_the_engine(scene, strength=strength, steps=steps)
    else:
        shown, content = shown_by_the_engine(None, mode="text_to_image", steps=steps), torch.zeros_like(content)
    judged = painter.decoded(painter.latents(content, ["starry night"], strength=strength, steps=steps, seed=3))[0]
    apart = np.abs(shown.astype(int) - judged.astype(int))
    assert apart.max() <= 3 and apart.mean() < 0.2
    monkeypatch.setattr("judging.painter.quick_dtype", lambda device: torch.bfloat16)
    fast = Painter(MODEL)
    rough = fast.decoded(fast.latents(content, ["starry night"], strength=strength, steps=steps, seed=3))[0]
    assert np.abs(rough.astype(int) - judged.astype(int)).mean() < 4  # bfloat16 moves the picture by little
