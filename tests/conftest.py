"""Fixtures for all tests: tiny models with random weights in diffusers' folder layout, and no way to the hub."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell ignores Ctrl-C for what it starts in the background; programs under test would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as engines run; must stand before torch is loaded

_MERGES = ["w a", "c a", "a t</w>", "o i", "oi l</w>", "ca t</w>"]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from a kind to its folder, made once: sd15, sd21 (v-prediction), sdxl, ip2p, flow, lcm.

    All read 16 tokens but flow (32), all have an AutoencoderKL of factor 8 but flow (AutoencoderTiny of factor 8). ip2p
    and flow take 8 channels: noisy latent and input.
    """
    folders: dict[str, Path] = {}

    def folder_of(kind: str) -> Path:
        if kind not in folders:
            folder = tmp_path_factory.mktemp("models") / f"tiny-{kind}"
            _write(kind, folder)
            folders[kind] = folder
        return folders[kind]

    return folder_of


def _write(kind: str, folder: Path) -> None:
    import diffusers
    import torch

    tokens = 32 if kind == "flow" else 16
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        tokenizer = _tokenizer(folder.parent / f"words-{kind}", tokens)
        parts: dict[str, Any] = {
            "unet": _unet(kind), "vae": _vae(kind), "tokenizer": tokenizer, "scheduler": _scheduler(kind),
            "text_encoder": _text(tokenizer, tokens, projected=False),
        }  # fmt: skip
        if kind == "sdxl":
            parts |= {"tokenizer_2": tokenizer, "text_encoder_2": _text(tokenizer, tokens, projected=True)}
            pipeline = diffusers.StableDiffusionXLPipeline(**parts)
        else:
            names = {"ip2p": "InstructPix2Pix", "flow": "InstructPix2Pix"}
            plain = "LatentConsistencyModel" if kind == "lcm" else f"StableDiffusion{names.get(kind, '')}"
            make = getattr(diffusers, f"{plain}Pipeline")
            pipeline = make(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
        pipeline.save_pretrained(folder)


def _unet(kind: str) -> Any:
    from diffusers import UNet2DConditionModel

    sdxl = kind == "sdxl"
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=8 if kind in ("ip2p", "flow") else 4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2 if kind == "sd15" else (2, 4),
        norm_num_groups=8,
        cross_attention_dim=64 if sdxl else 32,
        use_linear_projection=kind in ("sd21", "sdxl"),
        addition_embed_type="text_time" if sdxl else None,
        addition_time_embed_dim=8 if sdxl else None,
        projection_class_embeddings_input_dim=6 * 8 + 32 if sdxl else None,
        time_cond_proj_dim=16 if kind == "lcm" else None,
    )


def _vae(kind: str) -> Any:
    from diffusers import AutoencoderKL, AutoencoderTiny

    if kind == "flow":
        return AutoencoderTiny(
            encoder_block_out_channels=(16,) * 4, decoder_block_out_channels=(16,) * 4, num_encoder_blocks=(1,) * 4,
            num_decoder_blocks=(1,) * 4, scaling_factor=1.0,
        )  # fmt: skip
    return AutoencoderKL(
        block_out_channels=(8, 16, 16, 16), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=8, latent_channels=4,
        scaling_factor=0.13025 if kind == "sdxl" else 0.18215, force_upcast=True,
    )  # fmt: skip


def _text(tokenizer: Any, tokens: int, *, projected: bool) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=tokens, projection_dim=32, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def _tokenizer(folder: Path, tokens: int) -> Any:
    """CLIP's tokenizer with single bytes and a handful of merges."""
    from transformers import CLIPTokenizer

    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in printable] + [chr(256 + n) for n in range(256 - len(printable))]
    words = [*letters, *(letter + "</w>" for letter in letters), *(merge.replace(" ", "") for merge in _MERGES)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *_MERGES, ""]), encoding="utf-8")
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": tokens, "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder)


def _scheduler(kind: str) -> Any:
    from diffusers import DDIMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler, LCMScheduler

    if kind == "flow":
        return FlowMatchEulerDiscreteScheduler()
    betas: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    if kind == "lcm":
        return LCMScheduler(**betas)
    if kind == "sdxl":
        return EulerDiscreteScheduler(**betas)
    return DDIMScheduler(**betas, prediction_type="v_prediction" if kind == "sd21" else "epsilon", clip_sample=False)
