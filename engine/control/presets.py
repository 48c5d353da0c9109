"""Preset documents: plain data in, legal values out, and back. No files and no YAML in here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from engine.control.parameter import BadValue, Kind, Value
from engine.control.table import TABLE, UnknownParameter, find

FORMAT = 2
"""The document format that is written; older ones are read through `MIGRATIONS`."""

LONGEST_NAME = 80
LONGEST_DESCRIPTION = 500
NOT_PART_OF_A_LOOK = ("output", "status")
"""Groups that `capture` leaves out: what the desk does with the picture, and what we report."""

Document = dict[str, object]


class PresetError(ValueError):
    """A preset that cannot be read; the text says why, `key` names the entry at fault if there is one."""

    def __init__(self, sentence: str, *, key: str = "") -> None:
        super().__init__(sentence)
        self.key = key


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """A named look: legal values of some parameters, by their present names. Parameters it does not name stay alone."""

    name: str
    description: str = ""
    values: Mapping[str, Value] = field(default_factory=lambda: MappingProxyType({}))


def read_document(document: object) -> Preset:
    """The preset that a document of any known format means. Raises PresetError."""
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise PresetError("a preset is a mapping with the entries format, name, description and values")
    current = migrate(document)
    for key in current:
        if key not in ("format", "name", "description", "values"):
            raise PresetError(f"a preset has no entry {key!r}; values of parameters stand under 'values'", key=key)
    raw_values = current.get("values", {})
    if not isinstance(raw_values, dict):
        raise PresetError("'values' is a mapping from parameter names to values", key="values")
    return Preset(
        name=_text(current, "name", longest=LONGEST_NAME, needed=True),
        description=_text(current, "description", longest=LONGEST_DESCRIPTION, needed=False),
        values=MappingProxyType(_legal_values(raw_values)),
    )


def write_document(preset: Preset) -> Document:
    """The document of the present format: plain types only, values in table order, so equal presets look equal."""
    order = {row.name: place for place, row in enumerate(TABLE)}
    values = sorted(_legal_values(preset.values).items(), key=lambda pair: order[pair[0]])
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values}
    return {"format": FORMAT, "name": preset.name, "description": preset.description, "values": plain}


def capture(targets: Mapping[str, Value], *, name: str, description: str = "") -> Preset:
    """A preset of the look that is on now, from `LiveValues.targets()`."""
    rows = [row for row in TABLE if row.name in targets and row.group not in NOT_PART_OF_A_LOOK and not row.read_only]
    values = MappingProxyType({row.name: targets[row.name] for row in rows})
    return Preset(name=name, description=description, values=values)


def migrate(document: Document) -> Document:
    """The same preset in the present format, one step after the other. Raises PresetError for an unknown format."""
    number = document.get("format")
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise PresetError(f"'format' is a whole number, now {FORMAT}", key="format")
    if number > FORMAT:
        raise PresetError(f"format {number} is newer than this Phosphene, which knows {FORMAT}; update it", key="format")
    for step in MIGRATIONS[number - 1 :]:
        document = step(document)
    return document


def _from_1_to_2(document: Document) -> Document:
    """Format 1 called the name `title` and the values `parameters`."""
    renamed = {"title": "name", "parameters": "values"}
    return {renamed.get(key, key): value for key, value in document.items()} | {"format": 2}


MIGRATIONS: tuple[Callable[[Document], Document], ...] = (_from_1_to_2,)
"""Step n leads from format n + 1 to n + 2 (counted from 0)."""

if len(MIGRATIONS) != FORMAT - 1:
    raise ValueError("every older preset format needs one migration step")


def _legal_values(raws: Mapping[str, object]) -> dict[str, Value]:
    legal: dict[str, Value] = {}
    for name, raw in raws.items():
        try:
            row = find(str(name))
            if row.read_only or row.kind is Kind.TRIGGER:
                what = "a readout" if row.read_only else "a trigger"
                raise PresetError(f"{row.name} is {what} and cannot stand in a preset", key=str(name))
            if row.name in legal:
                raise PresetError(f"{row.name} stands there twice, once under a former name", key=str(name))
            legal[row.name] = row.coerce(raw)
        except (UnknownParameter, BadValue) as error:
            raise PresetError(str(error), key=str(name)) from None
    return legal


def _text(document: Document, key: str, *, longest: int, needed: bool) -> str:
    text = document.get(key, "")
    if not isinstance(text, str) or (needed and not text.strip()):
        raise PresetError(f"a preset needs a {key}" if needed else f"'{key}' is a text", key=key)
    if len(text) > longest:
        raise PresetError(f"the {key} is longer than {longest} characters", key=key)
    return " ".join(text.split())
