"""Presets as YAML files: those that ship with the package, and a user's folder. What a preset means is not in here."""

from __future__ import annotations

import contextlib
import importlib.resources
import os
import re
import tempfile
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path

import yaml

from engine.control.presets import Preset, PresetError, read_document, write_document

LARGEST_FILE = 64 * 1024
"""Bytes of a preset file."""
ENDING = ".yaml"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the list of presets. `problem` says why the file cannot be used, else it is empty."""

    key: str
    description: str
    shipped: bool
    problem: str = ""


class PresetFolder:
    """Presets by key, which is the file name without its ending. A user's own preset hides a shipped one of that key."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def list(self) -> list[Entry]:
        """All presets by key; a broken file is listed with its problem and spoils nothing else."""
        entries: dict[str, Entry] = {}
        for shipped, files in ((True, _shipped()), (False, self._own())):
            for key, file in files.items():
                try:
                    entries[key] = Entry(key=key, description=_load(file).description, shipped=shipped)
                except PresetError as error:
                    entries[key] = Entry(key=key, description="", shipped=shipped, problem=str(error))
        return [entries[key] for key in sorted(entries)]

    def load(self, key_or_path: str | Path) -> Preset:
        """The preset of that key, or in that file if it is written as a path. Raises PresetError, one plain line."""
        text = str(key_or_path)
        if isinstance(key_or_path, Path) or text.endswith((ENDING, ".yml")) or "/" in text or os.sep in text:
            return _load(Path(key_or_path))
        files = _shipped() | self._own()
        if text not in files:
            raise PresetError(f"there is no preset {text!r}; there are {', '.join(sorted(files))}")
        return _load(files[text])

    def save(self, preset: Preset, key: str) -> Path:
        """Write a preset of the user's, whole or not at all; one of the same key is replaced. Raises PresetError."""
        if self._folder is None:
            raise PresetError("no folder for own presets is set")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", key):
            raise PresetError(f"a preset's key is made of letters, digits, - and _, not {key!r}")
        path = self._folder / (key + ENDING)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _write_atomically(path, dump(preset))
        except OSError as error:
            raise PresetError(f"{path} cannot be written: {error.strerror or error}") from None
        return path

    def _own(self) -> dict[str, Traversable]:
        if self._folder is None or not self._folder.is_dir():
            return {}
        return {file.stem: file for file in sorted(self._folder.iterdir()) if file.suffix == ENDING}


def dump(preset: Preset) -> str:
    """A preset as YAML, the same text for equal presets."""
    return yaml.safe_dump(write_document(preset), sort_keys=False, allow_unicode=True, width=1000)


def _shipped() -> dict[str, Traversable]:
    files = importlib.resources.files("presets").iterdir()
    return {file.name.removesuffix(ENDING): file for file in files if file.name.endswith(ENDING)}


def _load(file: Traversable) -> Preset:
    text = _read(file)
    try:
        document = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise PresetError(f"{file.name}{line}: {error.problem or 'this is not YAML'}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise PresetError(f"{file.name}: this is not YAML ({str(error).splitlines()[0]})") from None
    try:
        return read_document(document)
    except PresetError as error:
        number = _line_of(text, error.key)
        line = f" line {number}" if number else ""
        raise PresetError(f"{file.name}{line}: {error}", key=error.key) from None


def _read(file: Traversable) -> str:
    try:
        with file.open("rb") as stream:
            raw = stream.read(LARGEST_FILE + 1)
        if len(raw) > LARGEST_FILE:
            raise PresetError(f"{file.name} is larger than {LARGEST_FILE} bytes, which no preset is")
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise PresetError(f"{file.name} is not UTF-8 text") from None
    except OSError as error:
        raise PresetError(f"{file} cannot be read: {error.strerror or error}") from None


def _line_of(text: str, key: str) -> int | None:
    """The line, from 1, where an entry stands, at the top or one level down."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not key or not isinstance(root, yaml.MappingNode):
        return None
    for name, value in root.value:
        inner = value.value if isinstance(value, yaml.MappingNode) else []
        for node in (name, *(pair[0] for pair in inner)):
            if node.value == key:
                return int(node.start_mark.line) + 1
    return None


def _write_atomically(path: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


__all__ = ["Entry", "PresetFolder", "dump"]
