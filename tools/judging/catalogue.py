"""Which styles are judged, and the prompt that asks for each; keys as in embedded.concepts: "look/name", "kind/name"."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from embedded.concepts import LEFT_OUT, UNNAMED, keyed_rows, plain_name, tidy
from embedded.looks import DRAWN
from embedded.style_examples import example_files
from embedded.style_teacher import StyleTable

LEAD = "in the style of "
GENERAL = {"art", "style", "painting", "drawing", "print", "printing", "photography", "paint", "crop", "cropped", "google"}


@dataclass(frozen=True)
class NamedStyle:
    """One named style: row of the style table, what to type for it, its bare name, the file of its example (None: none)."""

    key: str
    row: int
    prompt: str
    name: str
    example: str | None


def named_styles(data: Path) -> list[NamedStyle]:
    """Every style of the table that has a name of its own, in the table's order."""
    files = example_files(data)
    table = StyleTable(data)
    found = []
    for key, number in keyed_rows(table).items():
        row = table.rows[number]
        if row["name"] in (*LEFT_OUT, *UNNAMED):
            continue
        asked = tidy(row["prompt"])
        name = asked.removeprefix(LEAD) if row["kind"] == "sd35 style" else plain_name(row["name"])
        prompt = f"{name}, {asked}" if row["kind"] == "sdxl style" and not asked.startswith(name) else asked
        example = files.get((row["kind"], row["name"]))
        found.append(NamedStyle(key=key, row=number, prompt=prompt, name=name, example=example))
    return found


def chosen_styles(data: Path, *, count: int, seed: int) -> list[NamedStyle]:
    """`count` of the styles with example pictures, the same for the same seed."""
    shown = [style for style in named_styles(data) if style.example is not None]
    picked = np.random.default_rng(seed).permutation(len(shown))[:count]
    return [shown[i] for i in sorted(picked.tolist())]


def canonical_prompts(data: Path) -> dict[str, str]:
    """From every key that a held-out prompt may mean to the prompt that asks for it plainly."""
    return {f"look/{look.name}": look.name for look in DRAWN} | {style.key: style.prompt for style in named_styles(data)}


def concept(key: str) -> str:
    """What a key is about: the same for one style that stands in several collections (Art Deco, artstyle-art deco)."""
    words = plain_name(key.split("/", 1)[1]).split()
    kept = [word for word in words if word not in GENERAL and not word.isdigit()] or words
    return "".join(kept)
