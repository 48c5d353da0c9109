"""Writes the trained transformer, with the frozen parts it was trained beside, as one model folder."""

import copy
import json
import shutil
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, WanTransformer3DModel

MODEL_INDEX = {
    "_class_name": "WanPipeline",
    "_diffusers_version": "0.35.0",
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "transformer": ["diffusers", "WanTransformer3DModel"],
    "vae": ["diffusers", "AutoencoderTiny"],
}
POLICIES = {
    "timesteps": [1000, 500], "warped": False, "shift": 1.0, "step_rule": "first", "frames": 1, "window": 6, "scheduler": "sequential",
    "verified": "its own weights, streamed",
}  # fmt: skip
"""How the stream runs it; the catalogue's row says the same."""


def export_folder(out: Path, *, transformer: WanTransformer3DModel, vae: AutoencoderTiny, image_model: Path) -> None:
    """Put the model into `out` in float16, replacing each file in one move; other files in `out` stay.

    Text encoder and tokenizer are copies of the image model's: a transformer fits only those it was trained with, so a new image model
    must not take them away.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as made:
        folder = Path(made)
        for name, network in (("transformer", transformer), ("vae", vae)):
            copy.deepcopy(network).to(torch.float16).save_pretrained(folder / name)
        for name in ("text_encoder", "tokenizer"):
            shutil.copytree(image_model / name, folder / name)
        for name, content in (("model_index.json", MODEL_INDEX), ("video_policies.json", POLICIES)):
            (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            place = out / file.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            file.chmod(0o644)
            file.replace(place)


def megabytes(folder: Path) -> float:
    """Size of all files of a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
