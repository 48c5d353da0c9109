"""Parts of the training program on data drawn here: tokenizer files, sizes of networks and batches, the style table, export."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from embedded.export import export_folder
from embedded.networks import LATENTS, TEXT_WIDTH, new_autoencoder, new_denoiser, new_text_encoder, parameter_count
from embedded.scale import Scale, scale_of
from embedded.style_teacher import StyleTable
from embedded.tokenizer import MAX_TOKENS, token_ids, train_tokenizer
from transformers import CLIPTextModel, CLIPTokenizer

TEXTS = ["pencil sketch", "neon edges", "a dancer in neon style", "pencil drawing of a dancer"] * 5


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


def test_the_networks_fit_each_other_and_have_the_sizes_that_the_text_says() -> None:
    unet, vae, text = new_denoiser(), new_autoencoder(), new_text_encoder(vocabulary=12_500, start=12_498, end=12_499)
    with torch.inference_mode():
        latent = vae.encode(torch.zeros(2, 3, 64, 64)).latents
        states = text(torch.full((2, MAX_TOKENS), 12_499)).last_hidden_state
        velocity = unet(torch.cat([latent, latent], dim=1), torch.ones(2), states).sample
        assert vae.decode(velocity).sample.shape == (2, 3, 64, 64)
    assert latent.shape == velocity.shape == (2, LATENTS, 8, 8) and states.shape == (2, MAX_TOKENS, TEXT_WIDTH)
    assert vae.config.scaling_factor == 1
    assert [round(parameter_count(part) / 1e6) for part in (unet, vae, text)] == [14, 1, 4]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_rows_that_are_compared_as_pictures_are_there_at_every_scale(device: str, tiny_scale: Scale) -> None:
    for scale in (scale_of(torch.device(device)), tiny_scale):
        half, third = scale.latents // 2, scale.latents // 6
        assert scale.decoded - scale.decoded // 4 <= half, "only rows from noise alone"
        assert scale.decoded // 4 <= third, "only rows from the finished picture"
        assert scale.rebuilt <= scale.latents and scale.moved <= min(scale.latents, scale.pictures)
        assert scale.drawn <= scale.pool and scale.side % 32 == 0 and scale.processes >= 0


def test_an_unknown_style_is_named(tmp_path: Path) -> None:
    (tmp_path / "styles.json").write_text(json.dumps([{"kind": "painting", "name": "wave"}]), encoding="utf-8")
    np.savez(tmp_path / "styles.npz", vec=np.ones((1, 100), np.float16))
    table = StyleTable(tmp_path)
    assert np.array_equal(table.vector(("painting", "wave", 0)), np.ones(100))
    with pytest.raises(KeyError, match="storm"):
        table.vector(("painting", "storm", 0))


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
    read = AutoencoderTiny.from_pretrained(out / "vae")  # now it remembers where it was read
    export_folder(out, unet=unet, vae=read, text_encoder=text_encoder, tokenizer_folder=tokenizer_folder)
    assert str(tmp_path) not in (out / "vae" / "config.json").read_text(encoding="utf-8")
