"""The example pictures that say what a named style looks like."""

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from .concepts import UNNAMED, Concept, keyed_rows
from .style_teacher import StyleTable

SIDE = 256


def style_examples(data: Path, files: Sequence[str]) -> npt.NDArray[np.uint8]:
    """The example pictures of these file names in style_examples.tar, scaled whole to [N, 256, 256, 3]."""
    pictures: dict[str, npt.NDArray[np.uint8]] = {}
    wanted = set(files)
    with tarfile.open(data / "style_examples.tar") as archive:
        for member in archive:
            opened = archive.extractfile(member) if member.name in wanted else None
            if opened is None:
                continue
            encoded = np.frombuffer(opened.read(), dtype=np.uint8)
            picture = cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
            pictures[member.name] = np.asarray(cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return np.stack([pictures[name] for name in files])


def example_files(data: Path) -> dict[tuple[str, str], str]:
    """From (kind, name) of a named style to the file of its example picture."""
    rows = json.loads((data / "style_examples.json").read_text(encoding="utf-8"))
    return {("sd35 style" if row["file"].startswith("sd35_") else "sdxl style", row["name"]): row["file"] for row in rows}


def exemplified(data: Path, concepts: Sequence[Concept]) -> dict[int, str]:
    """From the number of a concept that has a name and an example to its file."""
    table, files = StyleTable(data), example_files(data)
    rows = {key: table.rows[number] for key, number in keyed_rows(table).items()}
    by_key = {key: (row["kind"], row["name"]) for key, row in rows.items() if row["name"] not in UNNAMED}
    asked = {number: by_key.get(concept.key) for number, concept in enumerate(concepts)}
    return {number: files[row] for number, row in asked.items() if row in files}
