"""Parts of the training program on data drawn here: tokenizer files, shards of pairs, the autoencoder's losses, export."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from embedded.autoencoder import picture_loss, texture_loss
from embedded.export import export_folder
from embedded.looks import DRAWN
from embedded.networks import new_autoencoder, new_denoiser, new_text_encoder
from embedded.pairs import LookPainter, make_shard, open_shard
from embedded.style_teacher import StyleTable, StyleTeacher
from embedded.tokenizer import token_ids, train_tokenizer
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTokenizer

TEXTS = ["pencil sketch", "neon edges", "a dancer in neon style", "pencil drawing of a dancer"] * 5


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TEXTS, folder, merges=60)
    return folder


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


def test_a_shard_repeats_by_seed_and_holds_the_look_of_its_own_crop(
    tmp_path: Path, scene: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedded.pairs.SHARD_BYTES", 24 * 256 * 256 * 3)
    save_file({"unused": torch.zeros(1)}, str(tmp_path / "teacher.safetensors"))
    (tmp_path / "styles.json").write_text(json.dumps([]), encoding="utf-8")
    np.savez(tmp_path / "styles.npz", vec=np.zeros((0, 100), np.float16))
    device = torch.device("cpu")
    teacher = StyleTeacher(tmp_path / "teacher.safetensors", device=device)
    painter = LookPainter(looks=DRAWN, teacher=teacher, table=StyleTable(tmp_path), device=device)
    photos = np.stack([scene, scene[::-1]])
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        make_shard(tmp_path / name, photos=photos, painter=painter, side=256, seed=seed)
    a, b, c = (open_shard(tmp_path / name) for name in "abc")
    assert np.array_equal(a.targets, b.targets) and not np.array_equal(a.targets, c.targets)
    for place in (0, 7, len(a.looks) - 1):
        draw = DRAWN[int(a.looks[place])].drawn
        assert draw is not None and np.array_equal(draw(np.array(a.contents[place])), a.targets[place])


def test_an_unknown_style_is_named(tmp_path: Path) -> None:
    (tmp_path / "styles.json").write_text(json.dumps([{"kind": "painting", "name": "wave"}]), encoding="utf-8")
    np.savez(tmp_path / "styles.npz", vec=np.ones((1, 100), np.float16))
    table = StyleTable(tmp_path)
    assert np.array_equal(table.vector(("painting", "wave", 0)), np.ones(100))
    with pytest.raises(KeyError, match="storm"):
        table.vector(("painting", "storm", 0))


def test_losses_are_zero_on_equal_pictures_and_texture_counts_detail_not_its_place() -> None:
    stripes = torch.zeros(1, 3, 32, 32)
    stripes[..., ::2] = 1
    moved = stripes.roll(1, dims=3)
    flat = torch.full_like(stripes, 0.5)
    assert float(picture_loss(stripes, stripes)) == float(texture_loss(stripes, stripes)) == 0
    assert float(texture_loss(moved, stripes)) < 0.01 < 0.9 < float(texture_loss(flat, stripes))
    assert float(picture_loss(flat, stripes)) < float(picture_loss(moved, stripes))


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
