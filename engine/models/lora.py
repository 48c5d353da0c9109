"""LoRA files: found, read in the layouts in use, and merged into the weights. Not LyCORIS, DoRA or adapters kept apart."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.models.catalogue import ModelError
from engine.models.loading_errors import reading, unreachable
from engine.models.lora_names import PARTS, flat, side_and_layer


@dataclass(frozen=True, kw_only=True, slots=True)
class MergedLora:
    """One merged LoRA: where it came from, the scale it was merged with, and how many layers it changed."""

    source: str
    scale: float
    layers: int


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class _Factor:
    """One layer's change, factor * up @ down. down: [R, in] or [R, in, kh, kw]; up: [out, R] or [out, R, 1, 1]."""

    up: Tensor
    down: Tensor
    factor: float


def merge_loras(
    wanted: Iterable[tuple[str, float]], *, unet: nn.Module, text_encoders: tuple[nn.Module, ...]
) -> tuple[MergedLora, ...]:
    """Add scale * (alpha / rank) * up @ down of every LoRA to the weights, in float32, rounded once for all of them.

    wanted: (source, scale); a source is a file, a folder, a hub id owner/name, or owner/name/file. ModelError if a file
    cannot be had or read, or if any of its layers is not in this model or of another shape: nothing is left out silently.
    """
    roots = dict(zip(PARTS, (unet, *text_encoders), strict=False))
    layers = {part: _layers(root) for part, root in roots.items()}
    terms: dict[nn.Module, list[_Factor]] = {}
    merged = []
    for source, scale in wanted:
        found = _match(source, _factors(source, unet), layers)
        for module, term in found:
            factor = _Factor(up=term.up, down=term.down, factor=term.factor * scale)
            terms.setdefault(module, []).append(factor)
        merged.append(MergedLora(source=source, scale=scale, layers=len(found)))
    for module, factors in terms.items():
        weight: Any = module.weight
        total = weight.detach().float() + sum(_change(one, weight) for one in factors)
        weight.data.copy_(total)
    return tuple(merged)


def _layers(root: nn.Module) -> dict[str, nn.Module]:
    """The linear and convolution layers of a network by flat name."""
    kinds = (nn.Linear, nn.Conv2d)
    return {flat(name): module for name, module in root.named_modules() if isinstance(module, kinds)}


def _change(term: _Factor, weight: Tensor) -> Tensor:
    """factor * up @ down in the shape of the weight, float32 on the weight's device."""
    up, down = (side.to(weight.device, torch.float32) for side in (term.up, term.down))
    return (term.factor * (up.flatten(1) @ down.flatten(1))).reshape(weight.shape)


def _match(
    source: str, factors: Mapping[tuple[str, str], _Factor], layers: Mapping[str, Mapping[str, nn.Module]]
) -> list[tuple[nn.Module, _Factor]]:
    """Each change with the layer it belongs to; ModelError if one has none or does not fit."""
    found, strangers = [], []
    for (part, name), term in factors.items():
        module = layers.get(part, {}).get(name)
        weight: Any = getattr(module, "weight", None)
        fits = weight is not None and (
            term.up.shape[0] == weight.shape[0]
            and term.up.flatten(1).shape[1] == term.down.shape[0]
            and term.down[0].numel() == weight[0].numel()
        )
        if module is not None and fits:
            found.append((module, term))
        else:
            strangers.append(f"{part} {name}")
    if strangers or not found:
        raise ModelError(
            f"the LoRA {source} was made for another kind of model: {len(strangers)} of its {len(factors)} layers "
            f"do not fit this one (the first is {strangers[0] if strangers else 'missing'}); choose a LoRA for this model"
        )
    return found


def _factors(source: str, unet: Any) -> dict[tuple[str, str], _Factor]:
    """What a LoRA file changes, by (part, layer name with underscores)."""
    state, metadata = _read_state(source)
    sides: dict[tuple[str, str], dict[str, Tensor]] = {}
    for key, tensor in state.items():
        named = side_and_layer(key, layers_per_block=unet.config.layers_per_block)
        if named is None:
            raise ModelError(
                f"the LoRA {source} holds {key!r}, which is no part of a plain LoRA (LyCORIS, DoRA and embeddings are "
                "not supported); choose a plain LoRA"
            )
        side, part, layer = named
        sides.setdefault((part, layer), {})[side] = tensor
    return {name: _factor(source, name, found, metadata) for name, found in sides.items()}


def _factor(source: str, name: tuple[str, str], found: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> _Factor:
    if "up" not in found or "down" not in found:
        raise ModelError(f"the LoRA {source} is broken: {name[0]} {name[1]} lacks one of its two factors; fetch it again")
    rank = found["down"].shape[0]
    alpha = float(found["alpha"]) if "alpha" in found else float(metadata.get(f"{name[0]}.lora_alpha", rank))
    for pattern, value in (metadata.get(f"{name[0]}.alpha_pattern") or {}).items():
        alpha = float(value) if name[1].endswith(flat(pattern.lstrip("^"))) else alpha
    divisor = math.sqrt(rank) if metadata.get(f"{name[0]}.use_rslora") else rank
    return _Factor(up=found["up"], down=found["down"], factor=alpha / divisor)


def _read_state(source: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a LoRA file and its adapter settings, if it was written with any."""
    path = _find(source)
    with reading("tensors", f"the LoRA {source}"):
        if path.suffix != ".safetensors":
            return dict(torch.load(path, map_location="cpu", weights_only=True)), {}
        from safetensors import safe_open

        with safe_open(path, framework="pt", device="cpu") as file:
            notes = (file.metadata() or {}).get("lora_adapter_metadata")
            return {key: file.get_tensor(key) for key in file.keys()}, json.loads(notes) if notes else {}  # noqa: SIM118


def _find(source: str) -> Path:
    """The file of a LoRA: itself, the only one of a folder, or one of the hub, fetched if it is not here yet."""
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        return path / _only([file.name for file in path.iterdir()], source)
    owner, _, rest = source.partition("/")
    name, _, file_name = rest.partition("/")
    if not name or path.is_absolute() or owner in ("", ".", ".."):
        raise ModelError(f"there is no LoRA {source}; name a file, a folder, or a hub id owner/name")
    from huggingface_hub import HfApi, hf_hub_download

    try:
        if not file_name:
            try:
                return Path(hf_hub_download(f"{owner}/{name}", "pytorch_lora_weights.safetensors"))
            except Exception:
                file_name = _only(HfApi().list_repo_files(f"{owner}/{name}"), source)
        return Path(hf_hub_download(f"{owner}/{name}", file_name))
    except ModelError:
        raise
    except Exception as error:
        raise unreachable(f"{owner}/{name}", error) from error


def _only(names: Iterable[str], source: str) -> str:
    """The LoRA file among the names of a folder; ModelError if there is none or several."""
    files = sorted(name for name in names if name.endswith(".safetensors"))
    if "pytorch_lora_weights.safetensors" in files:
        return "pytorch_lora_weights.safetensors"
    if len(files) != 1:
        raise ModelError(f"{source} holds {len(files)} .safetensors files; name the one that is the LoRA: {source}/FILE")
    return files[0]
