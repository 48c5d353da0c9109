"""Whether a prompt in somebody's own words gives the look that was meant."""

from pathlib import Path

import numpy as np
import yaml

from .catalogue import canonical_prompts, concept, named_styles
from .features import Features
from .report import Cell, Figures, percent
from .studio import Studio
from .style_space import StyleSpace

HELD_OUT = Path(__file__).with_name("held_out_prompts.yaml")
GALLERY = 200


def held_out_prompts(path: Path = HELD_OUT) -> list[tuple[str, str]]:
    """(key, prompt) of every held-out prompt, in the file's order."""
    read: dict[str, list[str]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [(key, prompt) for key, prompts in read.items() for prompt in prompts]


def gallery(data: Path, keys: list[str], *, count: int = GALLERY) -> dict[str, str]:
    """Canonical prompts of at least `count` styles by key: all that are meant, then others of the table."""
    prompts = canonical_prompts(data)
    missing = sorted(set(keys) - set(prompts))
    if missing:
        raise KeyError(f"no look or style is called {', '.join(missing)}")
    chosen = {key: prompts[key] for key in dict.fromkeys(keys)}
    for style in named_styles(data):
        if len(chosen) < count and style.example is not None:
            chosen.setdefault(style.key, style.prompt)
    return chosen


def first_hits(likeness: Features, keys: list[str], meant: list[str]) -> list[int]:
    """For every row [Q, M] of likenesses the place (0 = nearest) of the first key that is about what was meant."""
    concepts = [concept(key) for key in keys]
    places = []
    for row, key in zip(likeness, meant, strict=True):
        right = [i for i, found in enumerate(concepts) if keys[i] == key or found == concept(key)]
        places.append(int((row > row[right].max()).sum()))
    return places


def text_accuracy(studio: Studio, space: StyleSpace, data: Path) -> list[Figures]:
    """Shares of held-out prompts whose pictures are nearest to those of the canonical prompt; and those that miss by most.

    Compared are mean features over the photos, offset by their mean over the canonical prompts: all pictures are the model's own,
    so that this measures its understanding of words alone. Styles about the same thing count as one.
    """
    asked = held_out_prompts()
    meant = [key for key, _ in asked]
    known = gallery(data, meant)
    references = studio.features(list(known.values()))
    queries = studio.features([prompt for _, prompt in asked]).mean(axis=1)
    means = references.mean(axis=1)
    own = StyleSpace(space.scale, means.mean(axis=0), means.mean(axis=0))
    likeness = own.picture(queries) @ own.picture(means).T
    keys = list(known)
    places = np.array(first_hits(likeness, keys, meant))
    rows: list[list[Cell]] = []
    for kind in ("all", *dict.fromkeys(key.split("/")[0] for key in meant)):
        mine = places if kind == "all" else places[[key.startswith(f"{kind}/") for key in meant]]
        rows.append([kind, len(mine), percent(float((mine < 1).mean())), percent(float((mine < 5).mean())), float(np.median(mine)) + 1])
    rows.append(["chance, about", None, percent(1 / len(keys)), percent(5 / len(keys)), None])
    title = f"Held-out prompts: the style meant among the model's own pictures of {len(keys)} styles"
    worst = np.argsort(-places)[:25]
    lost: list[list[Cell]] = [[asked[i][1], meant[i], keys[int(likeness[i].argmax())], int(places[i]) + 1] for i in worst]
    return [
        Figures(title, ("prompts", "number", "nearest 1", "nearest 5", "median place"), rows),
        Figures("Held-out prompts that miss by most", ("prompt", "meant", "nearest", "place of the style meant"), lost),
    ]
