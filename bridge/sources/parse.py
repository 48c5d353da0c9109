"""What a source or a sink written as text means, and a plain sentence where it means nothing. Opens nothing."""

from __future__ import annotations

import difflib
import os.path
import re
from dataclasses import dataclass
from pathlib import Path

SOURCE_KINDS = ("ndi", "camera", "test", "null", "frames", "clip")
SINK_KINDS = ("ndi", "null", "frames", "clip")
CLIP_SUFFIXES = (".mp4", ".mov", ".mkv")
"""Containers that can be recorded to."""
SOURCE_FORMS = "ndi:NAME, ndi://HOST:PORT, camera:0, test, null, frames:FOLDER, or the path of a clip or picture"
SINK_FORMS = "ndi:NAME, null, frames:FOLDER, or the path of a clip ending in .mp4, .mov or .mkv"


class BadSpec(ValueError):
    """A text that names no source or sink; says what is possible."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceSpec:
    """kind: one of SOURCE_KINDS. name: of an NDI source. host, port: of one given by address. index: of a camera.

    path: of a clip or picture, or the folder of `frames`.
    """

    kind: str
    name: str = ""
    host: str = ""
    port: int = 0
    index: int = 0
    path: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SinkSpec:
    """kind: one of SINK_KINDS. name: of the NDI sender. path: of the clip, or the folder of `frames`."""

    kind: str
    name: str = ""
    path: Path | None = None


def parse_source(text: str) -> SourceSpec:
    """The source that `text` means; BadSpec if it means none, or a file that is not there."""
    word, rest = _split(text)
    match word:
        case "test" | "null" if not rest:
            return SourceSpec(kind=word)
        case "camera":
            if re.fullmatch(r"\d{1,3}", rest) is None:
                raise BadSpec(f"a camera is written camera:0 with its number, not {text!r}")
            return SourceSpec(kind="camera", index=int(rest))
        case "ndi" if rest.startswith("//"):
            host, port = _address(text, rest[2:])
            return SourceSpec(kind="ndi", host=host, port=port)
        case "ndi":
            return SourceSpec(kind="ndi", name=_name(text, rest, "ndi:NAME"))
        case "frames":
            folder = _folder(text, rest)
            if not os.path.isdir(folder):
                raise BadSpec(f"there is no folder {folder}")
            return SourceSpec(kind="frames", path=folder)
    path = _path(text, SOURCE_KINDS[:-1], SOURCE_FORMS)
    if os.path.isdir(path):
        raise BadSpec(f"{path} is a folder: write frames:{path} to play the pictures in it")
    if not os.path.exists(path):
        raise BadSpec(f"there is no file {path}{_guess(text, SOURCE_KINDS[:-1])}; a source is {SOURCE_FORMS}")
    return SourceSpec(kind="clip", path=path)


def parse_sink(text: str) -> SinkSpec:
    """The sink that `text` means; BadSpec if it means none, or a place that cannot be written to."""
    word, rest = _split(text)
    match word:
        case "null" if not rest:
            return SinkSpec(kind="null")
        case "ndi":
            return SinkSpec(kind="ndi", name=_name(text, rest, "ndi:NAME"))
        case "frames":
            folder = _folder(text, rest)
            if os.path.exists(folder) and not os.path.isdir(folder):
                raise BadSpec(f"{folder} is a file, not a folder for pictures")
            return SinkSpec(kind="frames", path=folder)
    path = _path(text, SINK_KINDS[:-1], SINK_FORMS)
    if path.suffix.lower() not in CLIP_SUFFIXES:
        raise BadSpec(f"{text!r} is no sink{_guess(text, SINK_KINDS[:-1])}; a sink is {SINK_FORMS}")
    if os.path.isdir(path):
        raise BadSpec(f"{path} is a folder, not a clip")
    if not os.path.isdir(path.absolute().parent):
        raise BadSpec(f"there is no folder {path.absolute().parent} to record into")
    return SinkSpec(kind="clip", path=path)


def _split(text: str) -> tuple[str, str]:
    """(kind, rest) of `kind:rest`, ("", "") where the text starts with no kind; one letter is a drive, not a kind."""
    match = re.fullmatch(r"\s*([A-Za-z]{2,})\s*(?::(.*))?", text, flags=re.DOTALL)
    return (match[1].lower(), (match[2] or "").strip()) if match else ("", "")


def _path(text: str, kinds: tuple[str, ...], forms: str) -> Path:
    """`text` as a path; BadSpec where it is written like a kind that does not exist."""
    if not text.strip():
        raise BadSpec(f"nothing was named; possible is {forms}")
    word, _ = _split(text)
    if ":" in text and word and not os.path.exists(text):
        if word in kinds:
            raise BadSpec(f"{word!r} takes nothing after it, not {text!r}")
        raise BadSpec(f"there is no kind {word!r}{_guess(word, kinds)}; possible is {forms}")
    return Path(os.path.expanduser(text.strip()))


def _guess(text: str, kinds: tuple[str, ...]) -> str:
    """`, did you mean ...?` for a typing mistake, else nothing."""
    near = difflib.get_close_matches(text.strip().lower(), kinds, n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near else ""


def _name(text: str, rest: str, form: str) -> str:
    if not rest:
        raise BadSpec(f"{text!r} lacks the name: write {form}")
    return rest


def _folder(text: str, rest: str) -> Path:
    return Path(os.path.expanduser(_name(text, rest, "frames:FOLDER")))


def _address(text: str, address: str) -> tuple[str, int]:
    """(host, port) of HOST:PORT or [IPv6]:PORT."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s/:]+):(\d{1,5})/?", address)
    if match is None or not 0 < int(match[2]) < 65536:
        raise BadSpec(f"an NDI source by address is written ndi://HOST:PORT, not {text!r}")
    return match[1].strip("[]"), int(match[2])
