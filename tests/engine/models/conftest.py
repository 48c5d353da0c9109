"""A tiny video model in the layout of Wan 2.1's: transformer, autoencoder, umT5 and a tokenizer, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WORDS = ["a", "cat", "at", "sea", "oil", "painting", "of", "the", "&"]


@pytest.fixture(scope="session")
def tiny_wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as diffusers' WanPipeline saves it: 2 layers of 2 x 128, text 32 wide."""
    import torch
    from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        transformer = WanTransformer3DModel(
            num_layers=2, num_attention_heads=2, attention_head_dim=128, ffn_dim=64, text_dim=32, freq_dim=32, rope_max_seq_len=64
        )
        pipeline = WanPipeline(
            tokenizer=word_tokenizer(), text_encoder=tiny_umt5(), vae=AutoencoderKLWan(base_dim=4, num_res_blocks=1),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0), transformer=transformer,
        )  # fmt: skip
    folder = tmp_path_factory.mktemp("video models") / "tiny-wan"
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture
def copied_wan(tiny_wan: Path, tmp_path: Path) -> Callable[[], Path]:
    """A function that gives a copy to spoil."""
    import shutil

    return lambda: Path(shutil.copytree(tiny_wan, tmp_path / "copy"))


def word_tokenizer() -> Any:
    """Whole words, each sentence ended by </s>, padded at its end: what a T5 tokenizer does, with nine words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "</s>", "<unk>", *WORDS]
    tokenizer = Tokenizer(models.WordLevel({name: place for place, name in enumerate(names)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


def tiny_umt5() -> Any:
    """umT5 with two layers, 32 wide; its norms and biases are not what they start as, so that a slip shows."""
    import torch
    from transformers import UMT5Config, UMT5EncoderModel

    config = UMT5Config(vocab_size=16, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, is_encoder_decoder=False)
    encoder = UMT5EncoderModel(config).eval()
    for weight in encoder.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return encoder
