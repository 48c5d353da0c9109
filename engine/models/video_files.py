"""Where the files of a video model are: in the package, on this machine or on the hub; and what a folder says of its parts.

What the files hold is read in video_weights.py.
"""

from __future__ import annotations

import importlib.resources
import json
from pathlib import Path

from engine.models.catalogue import MODEL_INDEX, ModelCard, ModelError
from engine.models.loading_errors import reading, unreachable
from engine.models.video_catalogue import EMBEDDED_VIDEO
from engine.models.video_policies import VideoPolicies

BESIDE = ("vae", "text_encoder", "tokenizer")
"""What a transformer needs beside it."""


def source_folder(card: ModelCard, policies: VideoPolicies) -> Path | None:
    """The folder of a model in diffusers' layout: a local one, or the hub's if the card names no file in it; else None."""
    if card.source == EMBEDDED_VIDEO:
        folder = Path(str(importlib.resources.files("engine.models") / "embedded_video"))
        if not (folder / MODEL_INDEX).is_file():
            raise ModelError("the embedded video model is missing from this installation; install the package again")
        return folder
    path = Path(card.source).expanduser()
    if path.is_dir():
        return path
    return None if path.is_file() or policies.weights else _hub_folder(card.source, card.hub_revision, ("transformer", *BESIDE))


def file_of(card: ModelCard, name: str, folder: Path | None) -> Path:
    """A file of a card's source: inside its folder, on this machine, or from the hub."""
    source = Path(card.source).expanduser()
    path = folder / name if folder is not None else (Path(name) if Path(name).is_absolute() else source) if source.is_file() else None
    if path is None:
        return hub_file(card.source, name, card.hub_revision)
    if not path.is_file():
        raise ModelError(f"{card.title} also needs the file {path.name}, and {path} is not there")
    return path


def base_folder(policies: VideoPolicies, card: ModelCard) -> Path:
    """Where autoencoder, text encoder and tokenizer of a bare checkpoint are."""
    beside = Path(card.source).expanduser().parent
    if Path(card.source).is_file() and (beside / MODEL_INDEX).is_file():
        return beside
    if not policies.base:
        raise ModelError(
            f"{card.title} is a transformer alone: name it as NAME@{card.source} after a row of the catalogue, or put it into a folder "
            f"with {MODEL_INDEX}, vae, text_encoder and tokenizer"
        )
    base = Path(policies.base).expanduser()
    return base if base.is_dir() else _hub_folder(policies.base, policies.base_revision or None, BESIDE)


def _hub_folder(source: str, revision: str | None, parts: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=[MODEL_INDEX, *(f"{part}/*" for part in parts)]))
    except Exception as error:
        raise unreachable(source, error) from error


def hub_file(source: str, name: str, revision: str | None) -> Path:
    """A file of a repository on the hub, fetched if it is not on this machine yet."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(source, name, revision=revision))
    except Exception as error:
        raise unreachable(source, error) from error


def part_classes(folder: Path) -> dict[str, str]:
    """The class names of the parts in a folder."""
    with reading(f"list of parts ({MODEL_INDEX})", str(folder)):
        index = json.loads((folder / MODEL_INDEX).read_text(encoding="utf-8"))
        names = {part: entry[1] for part, entry in index.items() if isinstance(entry, list) and len(entry) == 2}
    for part in BESIDE:
        if names.get(part) is None:
            raise ModelError(f"the model {folder.name} is incomplete: its {MODEL_INDEX} names no {part}; fetch it again")
    return names
