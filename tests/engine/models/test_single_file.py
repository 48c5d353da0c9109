"""Checkpoints in one file: weights equal to the folder they came from, packaged settings against known sizes, errors."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.models import single_file
from engine.models.catalogue import ModelError, resolve
from engine.models.model_folder import class_named
from engine.models.weights import LoadedModel, load

TinyModel = Callable[[str], Path]
CPU = torch.device("cpu")
RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
ENDS = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip


def loaded(path: Path) -> LoadedModel:
    return load(resolve(str(path)), device=CPU, dtype=torch.float32)


def inner(rest: str) -> str:
    """The name of a weight within a ResNet block, in the original code."""
    layer, dot, kind = rest.partition(".")
    return RESNET[layer] + dot + kind


def original_unet_name(name: str, *, resnets: int = 1) -> str:
    """The name of a UNet weight in the original code, for `resnets` ResNets a down block."""
    for new, old in ENDS.items():
        if name.startswith(new + "."):
            return name.replace(new, old)
    if match := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", name):
        is_resnet, n, rest = match[1] == "resnets", int(match[2]), match[3]
        return f"middle_block.{2 * n if is_resnet else 1}.{inner(rest) if is_resnet else rest}"
    match = re.fullmatch(r"(down|up)_blocks\.(\d)\.(resnets|attentions|\w+samplers)\.(\d)\.(.+)", name)
    assert match is not None, name
    block, kind, n, rest = int(match[2]), match[3], int(match[4]), match[5]
    if kind == "downsamplers":
        return f"input_blocks.{(resnets + 1) * (block + 1)}.0.{rest.replace('conv', 'op')}"
    if kind == "upsamplers":
        return f"output_blocks.{(resnets + 1) * block + resnets}.{2 if block == 0 else 1}.{rest}"
    place = (resnets + 1) * block + n + (1 if match[1] == "down" else 0)
    outer = "input_blocks" if match[1] == "down" else "output_blocks"
    return f"{outer}.{place}.0.{inner(rest)}" if kind == "resnets" else f"{outer}.{place}.1.{rest}"


def original_vae_name(name: str, *, blocks: int = 4) -> str:
    name = re.sub(r"down_blocks\.(\d)\.", r"down.\1.", name)
    name = re.sub(r"up_blocks\.(\d)\.", lambda found: f"up.{blocks - 1 - int(found[1])}.", name).replace(".resnets.", ".block.")
    name = re.sub(r"(down|up)samplers\.0\.conv", r"\1sample.conv", name)
    name = re.sub(r"mid_block\.block\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
    name = name.replace("mid_block.attentions.0.group_norm", "mid.attn_1.norm").replace("mid_block.attentions.0", "mid.attn_1")
    name = name.replace("to_out.0", "proj_out").replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    return re.sub(r"to_(q|k|v)\.", r"\1.", name)


def original_checkpoint(model: LoadedModel) -> dict[str, Tensor]:
    """The weights of a tiny Stable Diffusion 1.x in the layout of the original code."""
    tensors = {f"model.diffusion_model.{original_unet_name(n)}": w for n, w in model.unet.state_dict().items()}
    for name, weight in model.vae.state_dict().items():
        is_square = "attentions" in name and name.endswith("weight") and weight.ndim == 2
        tensors[f"first_stage_model.{original_vae_name(name)}"] = weight[:, :, None, None] if is_square else weight
    for name, weight in model.text_encoders[0].state_dict().items():
        tensors[f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}"] = weight
    return {name: weight.clone().contiguous() for name, weight in tensors.items()}


@pytest.fixture
def checkpoint(tiny_model: TinyModel, tmp_path: Path) -> Callable[[str, str], Path]:
    """A function from a kind and a file name to a checkpoint of the tiny model, its settings in a folder beside it."""

    def write(kind: str, file_name: str) -> Path:
        path = tmp_path / file_name
        tensors = original_checkpoint(loaded(tiny_model(kind)))
        if path.suffix == ".ckpt":
            torch.save({"state_dict": tensors}, path)
        else:
            save_file(tensors, path)
        folder = path.with_suffix("")
        shutil.copytree(tiny_model(kind), folder)
        for weights in folder.glob("*/*.safetensors"):
            weights.unlink()
        return path

    return write


@pytest.mark.parametrize(("kind", "file_name"), [("sd15", "a.safetensors"), ("sd15", "a.ckpt"), ("ip2p", "b.safetensors")])
def test_a_checkpoint_gives_the_weights_of_its_folder(
    tiny_model: TinyModel, checkpoint: Callable[[str, str], Path], kind: str, file_name: str
) -> None:
    whole, one = loaded(tiny_model(kind)), loaded(checkpoint(kind, file_name))
    pairs = [(whole.unet, one.unet), (whole.vae, one.vae), (whole.text_encoders[0], one.text_encoders[0])]
    for expected, found in pairs:
        names = dict(expected.named_parameters())
        assert names and all(torch.equal(weight, dict(found.named_parameters())[name]) for name, weight in names.items())
    assert (one.prediction, one.image_conditioned) == (whole.prediction, whole.image_conditioned)
    assert one.tokenizers[0]("a cat").input_ids == whole.tokenizers[0]("a cat").input_ids


def test_settings_beside_the_file_decide_the_prediction(checkpoint: Callable[[str, str], Path]) -> None:
    path = checkpoint("sd15", "a.safetensors")
    scheduler = path.with_suffix("") / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"prediction_type": "v_prediction"}))
    assert loaded(path).prediction == "v_prediction"


@pytest.mark.parametrize(
    ("family", "part", "parameters"),
    [
        ("sd1", "unet", 859_520_964), ("sd1", "vae", 83_653_863), ("sd1", "text_encoder", 123_060_480),
        ("sd2", "unet", 865_910_724), ("sd2", "text_encoder", 340_387_840),
        ("sdxl", "unet", 2_567_463_684), ("sdxl", "vae", 83_653_863), ("sdxl", "text_encoder", 123_060_480),
        ("sdxl", "text_encoder_2", 694_659_840),
    ],
)  # fmt: skip
def test_the_packaged_settings_make_networks_of_the_known_sizes(family: str, part: str, parameters: int) -> None:
    root = Path(single_file.__file__).parent / "checkpoint_configs" / family
    settings = json.loads((root / part / "config.json").read_text())
    name = settings.get("_class_name") or settings["architectures"][0]
    kind = class_named(name, part)
    with torch.device("meta"):
        network: nn.Module = kind.from_config(settings) if "_class_name" in settings else kind(kind.config_class(**settings))
    assert sum(weight.numel() for weight in network.parameters()) == parameters


def shapes(family: str, tmp_path: Path, marks: dict[str, Any]) -> tuple[Path, bool]:
    """The settings found for a checkpoint that shows only the weights by which its kind is told."""
    keys = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(320, 4, 3, 3)} | marks
    return single_file._settings(tmp_path / f"{family}.safetensors", keys, tmp_path)


V2_MARK = {"model.diffusion_model.input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(320, 1024)}
XL_MARK = {"conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias": torch.zeros(1280)}


@pytest.mark.parametrize(("family", "marks"), [("sd1", {}), ("sd2", V2_MARK), ("sdxl", XL_MARK)])
def test_the_kind_of_a_checkpoint_is_told_and_its_tokenizer_is_clips(family: str, marks: dict[str, Any], tmp_path: Path) -> None:
    folder, own = shapes(family, tmp_path, marks)
    assert (folder.name, own) == (family, False)
    tokenizer = class_named("CLIPTokenizer", "tokenizer").from_pretrained(folder / "tokenizer")
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert (len(tokenizer), tokenizer.model_max_length) == (49408, 77)
    padded = tokenizer("", padding="max_length", max_length=4).input_ids
    assert padded == ([49406, 49407, 0, 0] if family == "sd2" else [49406, 49407, 49407, 49407])


def test_sdxls_second_tokenizer_pads_with_zero(tmp_path: Path) -> None:
    folder, _ = shapes("sdxl", tmp_path, XL_MARK)
    tokenizer = class_named("CLIPTokenizer", "tokenizer").from_pretrained(folder / "tokenizer_2")
    assert tokenizer("", padding="max_length", max_length=4).input_ids == [49406, 49407, 0, 0]


@pytest.mark.parametrize(
    ("name", "family", "marks", "predicts_v"),
    [
        ("v2-1_768-ema-pruned", "sd2", {}, True), ("v2-1_512-ema-pruned", "sd2", {}, False), ("sd_turbo", "sd2", {}, False),
        ("anything", "sd1", {}, False), ("noob-v", "sdxl", {"v_pred": torch.zeros(0)}, True), ("sdxl", "sdxl", {}, False),
    ],
)  # fmt: skip
def test_which_checkpoints_predict_v(name: str, family: str, marks: dict[str, Any], predicts_v: bool) -> None:
    assert single_file._predicts_v(Path(f"{name}.safetensors"), marks, Path(family)) is predicts_v


def test_a_file_that_is_no_checkpoint_or_broken(tmp_path: Path) -> None:
    lora, broken = tmp_path / "lora.safetensors", tmp_path / "broken.safetensors"
    save_file({"unet.conv_in.lora_A.weight": torch.zeros(2, 2)}, lora)
    broken.write_bytes(b"\x10\0\0\0\0\0\0\0nonsense")
    with pytest.raises(ModelError, match="no Stable Diffusion checkpoint.* may be a LoRA"):
        loaded(lora)
    with pytest.raises(ModelError, match="the weights of .* cannot be read"):
        loaded(broken)


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ("cond_stage_model.", "the text_encoder of .* cannot be read"),
        ("first_stage_model.", "the vae of .* cannot be read"),
        ("model.diffusion_model.out.2", "does not hold all of the unet"),
        ("first_stage_model.decoder.conv_out", "does not hold all of the vae"),
        ("cond_stage_model.transformer.text_model.final_layer_norm.weight", "does not hold all of the text_encoder"),
    ],
)
def test_a_pruned_checkpoint_says_what_is_missing(checkpoint: Callable[[str, str], Path], lost: str, words: str) -> None:
    path = checkpoint("sd15", "a.safetensors")
    from safetensors.torch import load_file

    save_file({name: weight for name, weight in load_file(path).items() if not name.startswith(lost)}, path)
    with pytest.raises(ModelError, match=words):
        loaded(path)


def test_an_inpainting_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "inpaint.safetensors"
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(8, 9, 3, 3)}, path)
    with pytest.raises(ModelError, match="of kind inpainting"):
        loaded(path)
