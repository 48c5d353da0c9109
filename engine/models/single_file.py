"""A checkpoint in one file, as the original Stable Diffusion code wrote it, read without the hub. Not LoRA files.

The settings and the tokenizer, which such a file does not hold, are in the package for Stable Diffusion 1.x, 2.x and
SDXL. A folder beside the file with the file's name and a model_index.json replaces them: for v-prediction finetunes
and other shapes.
"""

from __future__ import annotations

import gzip
import importlib.resources
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from engine.models.catalogue import MODEL_INDEX, ModelError
from engine.models.loading_errors import reading
from engine.models.model_folder import ModelParts, class_named, read_index, vae_dtype

_UNET_INPUT = "model.diffusion_model.input_blocks.0.0.weight"
_FAMILIES = {"v1": "sd1", "v2": "sd2", "xl_base": "sdxl"}
"""diffusers' names for the layouts the engine can run, and the folder with their settings."""


def read_single_file(path: Path, *, dtype: torch.dtype) -> ModelParts:
    """All parts of a checkpoint, weights in `dtype`, on the CPU. ModelError says what it lacks."""
    from diffusers.loaders.single_file_utils import load_single_file_checkpoint

    with reading("weights", str(path)):
        checkpoint = load_single_file_checkpoint(str(path))
    if _UNET_INPUT not in checkpoint:
        raise ModelError(
            f"{path.name} is no Stable Diffusion checkpoint: it has no UNet in the original layout; it may be a LoRA, "
            "an autoencoder or another kind of model"
        )
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder, own = _settings(path, checkpoint, Path(scratch))
        return _read_parts(path, checkpoint, folder, own_settings=own, dtype=dtype)


def _settings(path: Path, checkpoint: Mapping[str, Any], scratch: Path) -> tuple[Path, bool]:
    """The folder with settings and tokenizers of a checkpoint, and whether it is the user's own."""
    beside = path.with_suffix("")
    if (beside / MODEL_INDEX).is_file():
        return beside, True
    from diffusers.loaders.single_file_utils import infer_diffusers_model_type

    kind = infer_diffusers_model_type(checkpoint)
    if kind not in _FAMILIES:
        raise ModelError(f"{path.name} is a checkpoint of kind {kind}; the engine runs Stable Diffusion 1.x, 2.x and SDXL")
    folder = scratch / _FAMILIES[kind]
    packaged = importlib.resources.files("engine.models") / "checkpoint_configs"
    with importlib.resources.as_file(packaged) as root:
        shutil.copytree(root / _FAMILIES[kind], folder)
        merges = gzip.decompress((root / "clip_merges.txt.gz").read_bytes()).decode("utf-8").split("\n")
    for tokenizer in folder.glob("tokenizer*"):
        write_clip_words(tokenizer, merges)
    return folder, False


def write_clip_words(folder: Path, merges: list[str]) -> None:
    """vocab.json and merges.txt of CLIP's tokenizer: 256 bytes, 256 bytes that end a word, the merges, two marks.

    The numbering follows Radford et al. 2021 (simple_tokenizer.py): printable bytes first, then the others.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in printable] + [chr(256 + n) for n in range(256 - len(printable))]
    words = [*letters, *(f"{letter}</w>" for letter in letters), *(merge.replace(" ", "") for merge in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    numbers = {word: number for number, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(numbers, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")


def _read_parts(
    path: Path, checkpoint: dict[str, Any], folder: Path, *, own_settings: bool, dtype: torch.dtype
) -> ModelParts:
    index = read_index(folder)
    with reading("settings", str(folder)):
        scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    if not own_settings and _predicts_v(path, checkpoint, folder):
        scheduler["prediction_type"] = "v_prediction"
    roles = [role for role in ("", "_2") if index.get(f"text_encoder{role}")]
    unet = _network(path, checkpoint, folder, "unet", index, dtype=dtype)
    vae = _network(path, checkpoint, folder, "vae", index, dtype=vae_dtype(folder / "vae", unet, dtype))
    tokenizers = []
    for role in roles:
        with reading(f"tokenizer{role}", str(folder)):
            kind = class_named(index[f"tokenizer{role}"][1], f"tokenizer{role}")
            tokenizers.append(kind.from_pretrained(folder / f"tokenizer{role}", local_files_only=True))
    return ModelParts(
        unet=unet,
        vae=vae,
        text_encoders=tuple(_network(path, checkpoint, folder, f"text_encoder{r}", index, dtype=dtype) for r in roles),
        tokenizers=tuple(tokenizers),
        scheduler_config=scheduler,
        scheduler_class=str(scheduler["_class_name"]),
        pipeline_class=str(index["_class_name"]),
        index=index,
    )


def _predicts_v(path: Path, checkpoint: Mapping[str, Any], folder: Path) -> bool:
    """Whether a checkpoint without settings predicts v: it says so, or it is a 2.x that is not a base or turbo model."""
    if "v_pred" in checkpoint:
        return True
    name = path.stem.lower()
    return folder.name == "sd2" and not any(word in name for word in ("base", "turbo", "512", "eps"))


def _network(
    path: Path, checkpoint: dict[str, Any], folder: Path, part: str, index: Mapping[str, Any], *, dtype: torch.dtype
) -> Any:
    """One network of a checkpoint; ModelError if the checkpoint does not hold all of it."""
    from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm

    kind = class_named(index[part][1], part)
    settings: dict[str, Any] = {"config": str(folder), "subfolder": part, "local_files_only": True}
    with reading(part, str(path)):
        try:
            if part.startswith("text_encoder"):
                network = create_diffusers_clip_model_from_ldm(kind, checkpoint, **settings)
            elif part == "unet":
                channels = int(checkpoint[_UNET_INPUT].shape[1])
                network = kind.from_single_file(checkpoint, in_channels=channels, **settings)
            else:
                network = kind.from_single_file(checkpoint, **settings)
        except NotImplementedError as error:  # diffusers moves a network some of whose weights were never filled in
            raise _incomplete(path, part) from error
    if any(weight.is_meta for weight in network.parameters()):
        raise _incomplete(path, part)
    return network.to(dtype)


def _incomplete(path: Path, part: str) -> ModelError:
    return ModelError(
        f"{path.name} does not hold all of the {part}: it was pruned too far, or it is of another kind than it seems; "
        "fetch the whole checkpoint"
    )
