"""A model as a folder in diffusers' layout: where it is (package, disk, hub) and how its parts are read. Not single files."""

from __future__ import annotations

import importlib
import importlib.resources
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engine.models.catalogue import MODEL_INDEX, ModelCard, ModelError
from engine.models.loading_errors import reading, unreachable
from engine.settings import EMBEDDED

_CLASSES: Mapping[str, str] = {
    "UNet2DConditionModel": "diffusers.models.unets.unet_2d_condition",
    "AutoencoderKL": "diffusers.models.autoencoders.autoencoder_kl",
    "AutoencoderTiny": "diffusers.models.autoencoders.autoencoder_tiny",
    "CLIPTextModel": "transformers",
    "CLIPTextModelWithProjection": "transformers",
    "CLIPTokenizer": "transformers",
    "CLIPTokenizerFast": "transformers",
}
"""The classes the engine can run, and the module each is read from: importing only these keeps the start short."""

_UNUSED = ("safety_checker", "feature_extractor", "image_encoder")


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelParts:
    """What a model is made of, as diffusers and transformers have it, on the CPU.

    index: the pipeline's own entries (model_index.json). scheduler_config: the scheduler's settings; class names beside.
    """

    unet: Any
    vae: Any
    text_encoders: tuple[Any, ...]
    tokenizers: tuple[Any, ...]
    scheduler_config: dict[str, Any]
    scheduler_class: str
    pipeline_class: str
    index: dict[str, Any]


def find_folder(card: ModelCard, *, dtype: torch.dtype) -> Path:
    """The folder of a card: of the package, of the disk, or of the hub's cache, fetched if it is not there yet."""
    if card.source == EMBEDDED:
        folder = Path(str(importlib.resources.files("engine.models") / "embedded"))
        if not (folder / MODEL_INDEX).is_file():
            raise ModelError("the embedded model is missing from this installation; install the package again")
        return folder
    folder = Path(card.source)
    return folder if folder.is_dir() else _fetch(card, dtype=dtype)


def _fetch(card: ModelCard, *, dtype: torch.dtype) -> Path:
    """The hub's copy of a model, only the files that are read, half precision ones if there are any and they serve."""
    from diffusers import DiffusionPipeline

    skip = dict.fromkeys(_UNUSED)
    if dtype == torch.float16:
        try:
            return Path(DiffusionPipeline.download(card.source, revision=card.hub_revision, variant="fp16", **skip))
        except Exception:  # noqa: S110 - a model without half precision files, or no hub: the second try tells which
            pass
    try:
        return Path(DiffusionPipeline.download(card.source, revision=card.hub_revision, **skip))
    except Exception as error:
        raise unreachable(card.source, error) from error


def read_index(folder: Path) -> dict[str, Any]:
    """The entries of model_index.json; ModelError if it is broken or the model is not one the engine can run."""
    with reading(f"list of parts ({MODEL_INDEX})", str(folder)):
        index = json.loads((folder / MODEL_INDEX).read_text(encoding="utf-8"))
        pipeline = str(index["_class_name"])
    names = {part: entry[1] for part, entry in index.items() if isinstance(entry, list) and len(entry) == 2}
    if names.get("unet") is None:
        core = names.get("transformer") or names.get("prior") or "no UNet"
        raise ModelError(
            f"{folder.name} is a {pipeline} with {core}; the engine runs Stable Diffusion 1.x, 2.x and SDXL, whose core is a UNet"
        )
    for part in ("vae", "text_encoder_2" if names.get("text_encoder") is None else "text_encoder", "scheduler"):
        if names.get(part) is None:
            raise ModelError(f"the model {folder.name} is incomplete: its {MODEL_INDEX} names no {part}; fetch it again")
    return dict(index)


def read_folder(folder: Path, *, dtype: torch.dtype) -> ModelParts:
    """All parts of a folder, weights in `dtype`, on the CPU. ModelError says which part cannot be read and why."""
    index = read_index(folder)
    scheduler_class = index["scheduler"][1]
    with reading("scheduler", str(folder)):
        scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    unet = read_part(folder, "unet", index["unet"][1], dtype=dtype)
    vae = read_part(folder, "vae", index["vae"][1], dtype=vae_dtype(folder / "vae", unet, dtype))
    roles = [role for role in ("", "_2") if (index.get(f"text_encoder{role}") or (None, None))[1] is not None]
    return ModelParts(
        unet=unet,
        vae=vae,
        text_encoders=tuple(
            read_part(folder, f"text_encoder{role}", index[f"text_encoder{role}"][1], dtype=dtype) for role in roles
        ),
        tokenizers=tuple(_read_tokenizer(folder, f"tokenizer{role}", index) for role in roles),
        scheduler_config=scheduler,
        scheduler_class=str(scheduler.get("_class_name") or scheduler_class),
        pipeline_class=str(index["_class_name"]),
        index=index,
    )


def class_named(name: str, part: str, *, known: Mapping[str, str] = _CLASSES) -> Any:
    """The class of a part; ModelError if the engine cannot run it. known: class names and their modules."""
    if name not in known:
        raise ModelError(f"the {part} of this model is a {name}, which the engine cannot run; it can: {', '.join(known)}")
    return getattr(importlib.import_module(known[name]), name)


def read_part(folder: Path, part: str, class_name: str, *, dtype: torch.dtype, known: Mapping[str, str] = _CLASSES) -> Any:
    """One network with its weights in `dtype`; ModelError if weights are missing or of another shape. known: as in class_named."""
    kind = class_named(class_name, part, known=known)
    variant = _variant(folder / part, dtype)
    with reading(part, str(folder)):
        if known[class_name] == "transformers":
            module, report = kind.from_pretrained(
                folder, subfolder=part, dtype=dtype, variant=variant, local_files_only=True, output_loading_info=True
            )
        else:
            module, report = kind.from_pretrained(
                folder, subfolder=part, torch_dtype=dtype, variant=variant, local_files_only=True, output_loading_info=True
            )
    lacking = sorted(map(str, report["missing_keys"])) + sorted(str(entry) for entry in report["mismatched_keys"])
    if lacking:
        raise ModelError(
            f"the {part} of {folder} is incomplete: {len(lacking)} weights are missing or of another shape "
            f"(the first is {lacking[0]}); fetch the model again"
        )
    return module


def vae_dtype(folder: Path, unet: Any, dtype: torch.dtype) -> torch.dtype:
    """float32 where the autoencoder overflows in float16: SDXL's own, unless its settings say otherwise."""
    config = folder / "config.json"
    if dtype != torch.float16 or unet.config.get("addition_embed_type") != "text_time" or not config.is_file():
        return dtype
    with reading("vae", str(folder.parent)):
        settings = json.loads(config.read_text(encoding="utf-8"))
    is_kl = settings.get("_class_name", "AutoencoderKL") == "AutoencoderKL"
    return torch.float32 if is_kl and settings.get("force_upcast", True) else dtype


def _variant(folder: Path, dtype: torch.dtype) -> str | None:
    """fp16 where only half precision files are there, or they are there and float16 is wanted."""
    weights = [path.name for kind in ("*.safetensors", "*.bin") for path in folder.glob(kind)]
    halves = [name for name in weights if ".fp16." in name]
    return "fp16" if halves and (dtype == torch.float16 or len(halves) == len(weights)) else None


def _read_tokenizer(folder: Path, part: str, index: Mapping[str, Any]) -> Any:
    entry = index.get(part) or (None, None)
    if entry[1] is None:
        raise ModelError(f"the model {folder.name} is incomplete: its {MODEL_INDEX} names no {part}; fetch it again")
    if not (folder / part).is_dir():
        raise ModelError(f"the model {folder} is incomplete: the folder {part} is missing; fetch it again")
    with reading(part, str(folder)):
        return class_named(entry[1], part).from_pretrained(folder / part, local_files_only=True)
