"""Causal Wan checkpoints as their training code wrote them: found in the file, renamed, checked against the shape, put together.

Such a file holds the transformer alone, often several of them (generator, generator_ema) and often with the prefixes of whatever
was wrapped around it in training. Autoencoder and text encoder are elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.models.loading_errors import reading
from engine.models.model_card import ModelError
from engine.models.video_policies import WanShape

ENTRIES = ("generator_ema", "generator", "model", "state_dict")
"""Parts of a training file that may be the transformer, the best one first."""
ADAPTER_ENTRIES = ("generator_lora", "lora", *ENTRIES)

_WRAPPERS = re.compile(r"_fsdp_wrapped_module\.|_checkpoint_wrapped_module\.|_orig_mod\.")
_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "base_model.model.", "generator_ema.", "generator.", "module.", "model.")
_NOT_WEIGHTS = ("freqs",)
"""Entries of some files that are tables, not weights."""
_LORA = re.compile(r"\.lora_([AB])(\.default)?\.weight$")
_TIMES, _TEXTS, _FEED = (
    "condition_embedder.time_embedder.linear_1.weight",
    "condition_embedder.text_embedder.linear_1.weight",
    "blocks.0.ffn.net.0.proj.weight",
)


def read_checkpoint(path: Path, *, entry: str = "", entries: tuple[str, ...] = ENTRIES, device: str = "cpu") -> dict[str, Tensor]:
    """The named (or best) part of a file, its names free of prefixes. device: `meta` reads names and shapes only.

    ModelError for a file that cannot be read, that holds more than weights, or that has no such part.
    """
    with reading("weights", str(path)):
        if path.suffix.lower() == ".safetensors":
            found: Any = _safetensors(path, device)
        else:
            found = _unpickled(path, device)
    if not isinstance(found, Mapping):
        raise ModelError(f"{path.name} is no checkpoint: it holds a {type(found).__name__}, not a table of weights")
    return plain_names(_part(found, path, entry, entries))


def _safetensors(path: Path, device: str) -> dict[str, Tensor]:
    from safetensors import safe_open
    from safetensors.torch import load_file

    if device != "meta":
        return dict(load_file(path, device=device))
    with safe_open(path, framework="pt") as file:
        return {name: torch.empty(file.get_slice(name).get_shape(), device="meta") for name in file.keys()}  # noqa: SIM118


def _unpickled(path: Path, device: str) -> Any:
    """A file of torch.save: weights only, mapped into memory where its format allows."""
    from pickle import UnpicklingError

    try:
        return torch.load(path, map_location=device, weights_only=True, mmap=device != "meta")
    except UnpicklingError as error:
        raise ModelError(
            f"{path.name} holds more than weights and is not opened, for it could run anything; ask its author for .safetensors"
        ) from error
    except RuntimeError as error:
        if "mmap" not in str(error):
            raise
        return torch.load(path, map_location=device, weights_only=True)


def _part(found: Mapping[str, Any], path: Path, entry: str, entries: tuple[str, ...]) -> dict[str, Tensor]:
    parts = {name: value for name, value in found.items() if isinstance(value, Mapping)}
    wanted = [entry] if entry and parts else list(entries)
    for name in wanted:
        if name in parts:
            return {key: value for key, value in parts[name].items() if isinstance(value, Tensor)}
    tensors = {key: value for key, value in found.items() if isinstance(value, Tensor)}
    if tensors and not (entry and parts):
        return tensors
    raise ModelError(f"{path.name} has no part {' or '.join(wanted)}; it holds: {', '.join(map(str, list(found)[:8])) or 'nothing'}")


def plain_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without the prefixes that training code puts before the transformer's own names."""
    return {_plain(name): tensor for name, tensor in state.items()}


def _plain(name: str) -> str:
    name = _WRAPPERS.sub("", name)
    stripped = next((name[len(prefix) :] for prefix in _PREFIXES if name.startswith(prefix)), None)
    return name if stripped is None else _plain(stripped)


def converted(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The transformer's weights under diffusers' names. ModelError says what else the file may be."""
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    names = [name for name in state if name not in _NOT_WEIGHTS]
    own = {name: state[name] for name in names}
    if "blocks.0.attn1.to_q.weight" in own:
        return own
    if "blocks.0.self_attn.q.weight" in own and "patch_embedding.weight" in own:
        if any(name.startswith("img_emb.") for name in own):
            raise ModelError(f"{source} is an image-to-video model, which wants a picture besides; the engine runs text-to-video ones")
        renamed: dict[str, Tensor] = convert_wan_transformer_to_diffusers(own)
        return renamed
    raise ModelError(f"{source} is no Wan transformer: {_guess(own)}")


def _guess(state: Mapping[str, Tensor]) -> str:
    if any("lora_" in name for name in state):
        return "it is a LoRA; name the checkpoint it was made for"
    if any(name.startswith(("encoder.", "decoder.")) for name in state):
        return "it looks like an autoencoder or a text encoder"
    if any(".input_blocks." in f".{name}" for name in state):
        return "it is an image model of the Stable Diffusion kind"
    first = next(iter(state), None)
    return "it holds no weights" if first is None else f"its weights have other names (the first is {first})"


def shape_of(state: Mapping[str, Tensor], source: str, *, head_dim: int = 128) -> WanShape:
    """The sizes of a transformer by its weights (diffusers' names). ModelError if those that tell are missing."""
    try:
        width, channels = state["patch_embedding.weight"].shape[:2]
        return WanShape(
            layers=1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks.")),
            heads=width // head_dim, head_dim=head_dim, ffn_dim=state[_FEED].shape[0], channels=channels,
            text_dim=state[_TEXTS].shape[1], freq_dim=state[_TIMES].shape[1],
        )  # fmt: skip
    except (KeyError, IndexError, ValueError) as error:
        raise ModelError(f"{source} is incomplete: it lacks {error}; fetch it again") from error


def transformer_settings(shape: WanShape) -> dict[str, Any]:
    """The settings with which diffusers makes a WanTransformer3DModel of this shape."""
    return {
        "num_layers": shape.layers, "num_attention_heads": shape.heads, "attention_head_dim": shape.head_dim, "ffn_dim": shape.ffn_dim,
        "in_channels": shape.channels, "out_channels": shape.channels, "text_dim": shape.text_dim, "freq_dim": shape.freq_dim,
        "patch_size": (1, 2, 2), "cross_attn_norm": True, "qk_norm": "rms_norm_across_heads", "eps": 1e-6,
    }  # fmt: skip


def empty_transformer(shape: WanShape) -> Any:
    """A WanTransformer3DModel whose weights take no memory, for comparing or filling."""
    from diffusers import WanTransformer3DModel

    with torch.device("meta"):
        transformer = WanTransformer3DModel(**transformer_settings(shape))
    config = transformer.config  # what is computed, not learned, is in no checkpoint
    transformer.rope = type(transformer.rope)(config.attention_head_dim, config.patch_size, config.rope_max_seq_len)
    return transformer


def misfits(state: Mapping[str, Tensor], transformer: Any) -> list[str]:
    """What does not fit: weights that are missing, of another shape, or unknown; empty if all is well."""
    wanted = transformer.state_dict()
    return (
        [f"{name} is missing" for name in wanted if name not in state]
        + [
            f"{name} is {list(state[name].shape)}, not {list(weight.shape)}"
            for name, weight in wanted.items()
            if name in state and state[name].shape != weight.shape
        ]
        + [f"{name} is unknown" for name in state if name not in wanted]
    )


def filled(transformer: Any, state: dict[str, Tensor], *, dtype: torch.dtype) -> Any:
    """The empty transformer with these weights, in `dtype` but for those that diffusers keeps in float32."""
    exact = tuple(transformer._keep_in_fp32_modules or ())
    for name in list(state):  # one by one, so that no more than one weight is held twice
        state[name] = state[name].to(torch.float32 if any(part in name.split(".") for part in exact) else dtype)
    transformer.load_state_dict(state, strict=True, assign=True)
    return transformer


def merge_adapter(state: dict[str, Tensor], adapter: Mapping[str, Tensor], source: str) -> int:
    """Add a checkpoint's own LoRA (PEFT's names, alpha = rank) to its weights, W + B A (Hu et al. 2021); how many were changed.

    ModelError if a pair is incomplete or does not fit: half an adapter would be another model.
    """
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    pairs: dict[str, dict[str, Tensor]] = {}
    for name, weight in convert_wan_transformer_to_diffusers(dict(adapter)).items():
        kind = _LORA.search(name)
        if kind is None:
            raise ModelError(f"{source} is no LoRA that the engine knows: it holds {name}")
        pairs.setdefault(name[: kind.start()] + ".weight", {})[kind[1]] = weight
    for name, pair in pairs.items():
        base = state.get(name)
        if base is None or set(pair) != {"A", "B"} or (pair["B"].shape[0], pair["A"].shape[1]) != tuple(base.shape):
            raise ModelError(f"the LoRA {source} does not fit the checkpoint at {name}; both must be of one release")
        state[name] = (base.float() + pair["B"].float() @ pair["A"].float()).to(base.dtype)
    return len(pairs)
