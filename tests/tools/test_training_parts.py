"""Parts of the training program on data drawn here: tokenizer files, shards of pairs, losses, latents, export."""

import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from embedded.autoencoder import picture_loss, to_signed
from embedded.concepts import Concept
from embedded.export import export_folder
from embedded.latents import LatentBatches, encoder_mark, latents_path
from embedded.networks import new_autoencoder, new_denoiser, new_text_encoder
from embedded.pairs import RecipePainter, clouds, finished, make_shard, open_shard, seeded_noise
from embedded.perceptual import PerceptualLoss, covariance, signed_root
from embedded.recipes import Recipe, RecipeBook
from embedded.style_teacher import StyleTable, StyleTeacher
from embedded.tokenizer import token_ids, train_tokenizer
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTokenizer

TEXTS = ["pencil sketch", "neon edges", "a dancer in neon style", "pencil drawing of a dancer"] * 5
CPU = torch.device("cpu")
Picture = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def perceptual() -> PerceptualLoss:
    return PerceptualLoss()


class DrawnOnly(RecipeBook):
    """Recipes without style vectors, which would need the style teacher's weights."""

    def drawn(self, generator: np.random.Generator) -> Recipe:
        recipe = super().drawn(generator)
        first = recipe.first % len(self.looks)
        return Recipe(first, min(recipe.second, len(self.looks) - 1), recipe.colours, recipe.tone, recipe.noise_seed)


def test_a_trained_tokenizer_joins_frequent_words_and_loses_no_text(tokenizer_folder: Path) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder)
    assert len(tokenizer("pencil").input_ids) == 3
    for text in ("neon edges", "zürich 東京", "50% + 3"):
        ids = tokenizer(text).input_ids
        assert tokenizer.unk_token_id not in ids[1:-1]
        assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.replace(" ", "")


def test_the_same_texts_give_the_same_tokenizer(tokenizer_folder: Path, tmp_path: Path) -> None:
    train_tokenizer(TEXTS, tmp_path, merges=60)
    for name in ("vocab.json", "merges.txt"):
        assert (tmp_path / name).read_bytes() == (tokenizer_folder / name).read_bytes()


def test_a_shard_repeats_by_seed_and_holds_what_its_recipes_say(
    tmp_path: Path, scene: Picture, toy_concepts: list[Concept], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedded.pairs.SHARD_BYTES", 40 * 128 * 128 * 3)
    save_file({"unused": torch.zeros(1)}, str(tmp_path / "teacher.safetensors"))
    teacher = StyleTeacher(tmp_path / "teacher.safetensors", device=CPU)
    painter = RecipePainter(concepts=toy_concepts, teacher=teacher, device=CPU)
    photos, book = np.stack([scene, scene[::-1]]), DrawnOnly(toy_concepts)
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        make_shard(tmp_path / name, photos=photos, painter=painter, book=book, side=128, seed=seed)
    a, b, c = (open_shard(tmp_path / name) for name in "abc")
    assert np.array_equal(a.targets, b.targets) and not np.array_equal(a.targets, c.targets)
    recipes = [Recipe.from_row(row) for row in a.recipes]
    assert any(recipe.noise_seed >= 0 for recipe in recipes) and any(recipe.second >= 0 for recipe in recipes)
    for recipe, content, target in zip(recipes, a.contents, a.targets, strict=True):
        if recipe.noise_seed >= 0:
            assert np.array_equal(content, clouds(seeded_noise(recipe.noise_seed, side=128)))
        made = np.array(content)
        for number in (recipe.first, recipe.second):
            draw = toy_concepts[number].drawn if number >= 0 else None
            made = made if draw is None else draw(made)
        assert np.array_equal(finished(made, recipe), target)


def test_an_unknown_style_is_named(tmp_path: Path) -> None:
    (tmp_path / "styles.json").write_text(json.dumps([{"kind": "painting", "name": "wave"}]), encoding="utf-8")
    np.savez(tmp_path / "styles.npz", vec=np.ones((1, 100), np.float16))
    table = StyleTable(tmp_path)
    assert np.array_equal(table.vector(("painting", "wave", 0)), np.ones(100))
    with pytest.raises(KeyError, match="storm"):
        table.vector(("painting", "storm", 0))


def test_the_picture_loss_is_zero_on_equal_pictures_and_adds_its_three_parts() -> None:
    stripes = torch.zeros(1, 3, 32, 32)
    stripes[..., ::2] = 1
    flat = torch.full_like(stripes, 0.25)
    assert float(picture_loss(stripes, stripes)) == 0
    # pixels (0.75 + 0.25) / 2, slopes across 1 and down 0, means of 4x4 squares 0.5 against 0.25
    assert float(picture_loss(flat, stripes)) == pytest.approx(0.5 + 1 + 0.25)


def test_the_perceptual_loss_is_zero_on_equal_pictures_and_grows_with_blur(perceptual: PerceptualLoss, scene: Picture) -> None:
    sharp = to_signed(scene[None, 64:192, 64:192], device=CPU)
    soft = [to_signed(cv2.GaussianBlur(scene, (0, 0), sigma)[None, 64:192, 64:192], device=CPU) for sigma in (1, 2, 4)]
    with torch.inference_mode():
        assert [float(part) for part in perceptual(sharp, sharp)] == [0, 0]
        losses = [[float(part) for part in perceptual(each, sharp)] for each in soft]
    for places in zip(*losses, strict=True):
        assert 0 < places[0] < places[1] < places[2]


def test_features_have_a_half_a_half_a_quarter_and_an_eighth_of_the_size(perceptual: PerceptualLoss) -> None:
    with torch.inference_mode():
        assert [feature.shape[-1] for feature in perceptual.features(torch.zeros(1, 3, 64, 64))] == [32, 32, 16, 8]
    assert not perceptual.train().training and not any(parameter.requires_grad for parameter in perceptual.parameters())


def test_covariance_is_that_of_numpy_and_the_root_keeps_sign_and_slope() -> None:
    features = torch.randn(2, 5, 6, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for made, feature in zip(covariance(features), features, strict=True):
        np.testing.assert_allclose(made.numpy(), np.cov(feature.flatten(1).numpy(), bias=True), rtol=1e-9)
    values = torch.tensor([-9.0, 0.0, 9.0], requires_grad=True)
    roots = signed_root(values)
    torch.testing.assert_close(roots.detach(), torch.tensor([-2.9, 0.0, 2.9]), atol=0.01, rtol=0)
    roots.sum().backward()
    assert values.grad is not None and bool(torch.isfinite(values.grad).all())


def test_colour_directions_recover_a_planted_linear_map(tmp_path: Path) -> None:
    """Latents that are a linear function of the mean colour of their 8 x 8 pixels, and noise of no colour."""
    generator = np.random.default_rng(2)
    planted = generator.normal(size=(4, 3))
    pictures = np.repeat(np.repeat(generator.integers(0, 256, size=(6, 16, 16, 3)), 8, axis=1), 8, axis=2).astype(np.uint8)
    cells = pictures[:, ::8, ::8] / 127.5 - 1
    latents = np.einsum("ck,nhwk->nchw", planted, cells) + np.array([1.0, -2.0, 0.5, 3.0])[:, None, None]
    latents += 0.01 * generator.normal(size=latents.shape)
    autoencoder = new_autoencoder()
    folder = tmp_path / "pairs_128_000"
    folder.mkdir()
    for name in ("contents", "targets"):
        np.save(folder / f"{name}.npy", pictures)
    np.save(folder / "recipes.npy", np.array([Recipe(0).row()] * 6))
    np.save(latents_path(folder, encoder_mark(autoencoder)), np.stack([latents, latents], axis=1).astype(np.float16))
    found = LatentBatches(tmp_path, autoencoder, side=128, device=CPU).colour_directions()
    np.testing.assert_allclose(found.numpy(), planted, atol=0.01)


def test_an_export_replaces_the_model_and_leaves_the_card(tokenizer_folder: Path, tmp_path: Path) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder)
    text_encoder = new_text_encoder(vocabulary=len(tokenizer), start=tokenizer.bos_token_id, end=tokenizer.eos_token_id)
    out = tmp_path / "model"
    out.mkdir()
    (out / "MODEL.md").write_text("card", encoding="utf-8")
    unet, vae = new_denoiser(), new_autoencoder()
    for _ in range(2):
        with torch.no_grad():
            text_encoder.get_input_embeddings().weight.mul_(2)
        export_folder(out, unet=unet, vae=vae, text_encoder=text_encoder, tokenizer_folder=tokenizer_folder)
    loaded = CLIPTextModel.from_pretrained(out / "text_encoder").float()
    ids = torch.tensor(token_ids(tokenizer, ["neon"]))
    with torch.inference_mode():
        difference = loaded(ids).last_hidden_state - text_encoder.eval()(ids).last_hidden_state
    assert float(difference.abs().max()) < 0.02
    assert (out / "MODEL.md").read_text(encoding="utf-8") == "card"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
