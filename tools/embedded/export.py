"""Writes the trained networks as one diffusers folder, file by file, so that readers never meet half a model."""

import copy
import json
import shutil
import tempfile
from pathlib import Path
from typing import TypeVar

import torch
from diffusers import AutoencoderTiny, FlowMatchEulerDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPTextModel

Network = TypeVar("Network", bound=torch.nn.Module)
MODEL_INDEX = {
    "_class_name": "StableDiffusionInstructPix2PixPipeline",
    "_diffusers_version": "0.35.0",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderTiny"],
}


def export_folder(
    out: Path,
    *,
    unet: UNet2DConditionModel,
    vae: AutoencoderTiny,
    text_encoder: CLIPTextModel,
    tokenizer_folder: Path,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Put the model into `out` in `dtype`, replacing each file in one move; other files in `out` stay."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as made:
        folder = Path(made)
        _copied(unet, dtype).save_pretrained(folder / "unet")
        _copied(vae, dtype).save_pretrained(folder / "vae")
        _copied(text_encoder, dtype).save_pretrained(folder / "text_encoder")
        FlowMatchEulerDiscreteScheduler(shift=1.0).save_pretrained(folder / "scheduler")
        shutil.copytree(tokenizer_folder, folder / "tokenizer")
        for part in ("unet", "vae", "text_encoder"):
            _forget_origin(folder / part / "config.json")
        (folder / "model_index.json").write_text(json.dumps(MODEL_INDEX, indent=2) + "\n", encoding="utf-8")
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            place = out / file.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            file.chmod(0o644)
            file.replace(place)


def _forget_origin(config: Path) -> None:
    """Where the weights were read from is nobody's business but this machine's."""
    told = json.loads(config.read_text(encoding="utf-8"))
    told.pop("_name_or_path", None)
    config.write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _copied(network: Network, dtype: torch.dtype) -> Network:
    """A contiguous copy of `network` in `dtype`: the training copy keeps its own type and layout."""
    copied: Network = copy.deepcopy(network).to(dtype=dtype)
    for tensor in (*copied.parameters(), *copied.buffers()):
        tensor.data = tensor.data.contiguous()
    return copied
