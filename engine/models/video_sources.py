"""Whether a folder, a file or a hub id is a video model, found out without loading it. No torch."""

from __future__ import annotations

import json
import re
from pathlib import Path

from engine.models.model_card import UnknownModel
from engine.models.video_policies import VideoPolicies, policies_from_json

VIDEO_FILES = (".pt", ".pth")
"""Kinds of file in which causal video checkpoints come, besides .safetensors."""
POLICIES_FILE = "video_policies.json"
"""Beside a model's other files: how it is run, where it is not as Self-Forcing's."""
TRANSFORMER = "WanTransformer3DModel"

_VIDEO_NAMES = re.compile(r"wan2[._]\d|forcing|causvid|longlive|streamdiffusion-?v2", re.IGNORECASE)
_WAN_KEYS = ("self_attn.norm_q.weight", "blocks.0.attn1.norm_q.weight")
_HEADER_LIMIT = 100_000_000


def policies_of_folder(folder: Path, index_file: str) -> VideoPolicies | None:
    """How the video model in a folder of diffusers' layout is run; None if it is no video model.

    UnknownModel if its own policies are there and cannot be understood.
    """
    try:
        index = json.loads((folder / index_file).read_text(encoding="utf-8"))
        is_video = TRANSFORMER in index["transformer"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # an image model, or broken: loading says how
    return policies_beside(folder) if is_video else None


def policies_beside(folder: Path, over: VideoPolicies | None = None) -> VideoPolicies:
    """The policies that a folder holds, over those of a row of the catalogue or the usual ones."""
    file = folder / POLICIES_FILE
    if not file.is_file():
        return over or VideoPolicies()
    try:
        return policies_from_json(file.read_text(encoding="utf-8"), over)
    except (OSError, ValueError) as error:
        raise UnknownModel(f"{file} cannot be used: {error}") from error


def is_video_file(path: Path) -> bool:
    """Whether a single file is a video checkpoint: by its kind, or by the names of the weights in a .safetensors header."""
    if path.suffix.lower() in VIDEO_FILES:
        return True
    return path.suffix.lower() == ".safetensors" and any(key.endswith(_WAN_KEYS) for key in safetensors_names(path))


def safetensors_names(path: Path) -> list[str]:
    """The names of the weights in a .safetensors file; none if it is not one."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if 0 < length < _HEADER_LIMIT else {}
    except (OSError, ValueError):
        return []
    return [name for name in header if name != "__metadata__"] if isinstance(header, dict) else []


def sounds_like_video(name: str) -> bool:
    """Whether a hub id that nobody has looked into yet is taken for a causal video model, by its name."""
    return _VIDEO_NAMES.search(name) is not None
