"""Everything the model can be asked for by name: one list of concepts, drawn looks and rows of the style table alike.

A concept is either a procedural look or a style vector. Its key names its origin ("look/neon edges", "sdxl style/Art Deco",
"tags/painting, oil, portrait"); its phrases are the ways to ask for it.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml

from .looks import DRAWN
from .style_teacher import StyleTable
from .tones import Picture

PHRASE_FILES = (
    "sd35_styles", "more_phrases_a", "more_phrases_b", "more_phrases_c", "spoken_looks", "spoken_sd35_styles", "spoken_sdxl_styles",
)  # fmt: skip
WORDS = Path(__file__).parent / "words"
NAMED = ("sdxl style", "sd35 style", "painting", "visual")  # kinds whose rows stand alone; "tags" rows come in groups
PREFIX = re.compile(r"^((mk|fooocus) |(mre|sai|ads|artstyle|futuristic|game|misc|papercraft|photo)-)", re.IGNORECASE)
LEFT_OUT = ("Fooocus Negative",)  # a list of things to avoid, not a style
UNNAMED = ("MK adnate-style", "MK ron-english-style", "MK shepard-fairey-style")  # living artists: asked for by description only


@dataclass
class Concept:
    """One thing to ask for. Exactly one of `drawn` and `vector` ([100], float32) is set; `phrases[0]` is its plain name."""

    key: str
    phrases: list[str] = field(default_factory=list)
    drawn: Callable[[Picture], Picture] | None = None
    vector: npt.NDArray[np.float32] | None = None

    @property
    def kind(self) -> str:
        return self.key.partition("/")[0]


def plain_name(name: str) -> str:
    """A row's name as a person would type it: "MK Van Gogh" -> "van gogh", "sai-pixel art" -> "pixel art"."""
    bare = PREFIX.sub("", name)
    bare = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", bare)
    bare = re.sub(r"\s+(2|art style|style)$", "", bare, flags=re.IGNORECASE)
    return re.sub(r"[-_]+", " ", bare).strip().lower()


def tidy(prompt: str) -> str:
    """A style's prompt template as one phrase: no place holder, no doubled separators."""
    text = re.sub(r"\s*\.\s+", ", ", re.sub(r"\bof (,|\.)", r"\1", prompt.replace("{prompt}", "")))
    return re.sub(r"(\s*,\s*)+", ", ", text).strip(" ,.").lower()


def keyed_rows(table: StyleTable) -> dict[str, int]:
    """Row number of every named style by its key; equal names of one kind are counted on ("visual/milkdrop 3")."""
    rows = [(number, row) for number, row in enumerate(table.rows) if row["kind"] in NAMED]
    names = [(row["kind"], row["name"]) for _, row in rows]
    seen: dict[tuple[str, str], int] = {}
    keys = {}
    for (number, _), name in zip(rows, names, strict=True):
        count = seen.get(name, 0)
        seen[name] = count + 1
        suffix = f" {count}" if names.count(name) > 1 else ""
        keys[f"{name[0]}/{name[1]}{suffix}"] = number
    return keys


def all_concepts(table: StyleTable) -> list[Concept]:
    """Drawn looks, then named styles, then groups of tags, with all their phrases; no phrase belongs to two concepts."""
    concepts = [Concept(f"look/{look.name}", list(look.prompts), drawn=look.drawn) for look in DRAWN]
    for key, number in keyed_rows(table).items():
        row = table.rows[number]
        name, asked = plain_name(row["name"]), tidy(row["prompt"])
        whole = [f"{name}, {asked}"] if row["kind"] == "sdxl style" and not asked.startswith(name) else []
        named = [name, *whole, asked, row["name"].lower()]
        phrases = [] if row["name"] in UNNAMED else named
        if row["name"] not in LEFT_OUT:
            concepts.append(Concept(key, phrases, vector=table.vectors[number]))
    concepts += _tag_groups(table)
    names, more = _read("stage_names"), written_phrases()
    for concept in concepts:
        concept.phrases = [*names.get(concept.key, []), *concept.phrases, *more.get(concept.key, [])]
    _unshared(concepts)
    return concepts


def written_phrases() -> dict[str, list[str]]:
    """The phrases of the word files by key."""
    found = {f"sdxl style/{name}": phrases for name, phrases in _read("sdxl_styles").items()}
    for file in PHRASE_FILES:
        for key, phrases in _read(file).items():
            found[key] = [*found.get(key, []), *phrases]
    return found


def ordinary_words() -> dict[str, list[str]]:
    """Ordinary words and the keys of the one or two concepts that fit each best."""
    return _read("ordinary_words")


def _read(name: str) -> dict[str, list[str]]:
    path = WORDS / f"{name}.yaml"
    found = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {str(key): [str(value) for value in values] for key, values in (found or {}).items()}


def _tag_groups(table: StyleTable) -> Iterable[Concept]:
    """One concept for each distinct list of tags: the vector nearest to the mean of all rows that carry it."""
    groups: dict[str, list[int]] = {}
    for number, row in enumerate(table.rows):
        if row["kind"] == "tags":
            groups.setdefault(row["prompt"], []).append(number)
    for prompt, numbers in groups.items():
        vectors = table.vectors[numbers]
        middle = int(np.square(vectors - vectors.mean(axis=0)).sum(axis=1).argmin())
        yield Concept(f"tags/{prompt}", [prompt.lower()], vector=vectors[middle])


def _unshared(concepts: list[Concept]) -> None:
    """Leave a phrase that several concepts claim to its stage name or else the first; a concept without any keeps its full key."""
    owner = {phrase: key for key, phrases in _read("stage_names").items() for phrase in phrases}
    for concept in concepts:
        kept = []
        for phrase in concept.phrases:
            if phrase and owner.setdefault(phrase.lower(), concept.key) == concept.key and phrase not in kept:
                kept.append(phrase)
        concept.phrases = kept or [concept.key.replace("/", " ").lower()]
