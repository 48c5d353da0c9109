"""What styles are known by: wanted pictures looked at once, and the examples in the data, real and made up."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from embedded.concepts import Concept
from embedded.finishing import Finisher, signed
from embedded.known_styles import ROUNDS, known_styles
from embedded.pairs import PairArtist
from embedded.perceptual import PerceptualLoss
from embedded.recipes import EachInTurn
from embedded.style_contrast import joined_statistics
from embedded.style_examples import exemplified, style_examples
from judging.catalogue import named_styles

from tests.tools.conftest import DATA

CPU = torch.device("cpu")
ROWS = [("Toy Red", "sdxl style", (200, 30, 30)), ("Toy Blue", "sd35 style", (30, 30, 200)), ("Unseen", "painting", None)]


@pytest.fixture
def made_up(tmp_path: Path) -> Path:
    """A data folder of three styles, two of them with an example in one colour."""
    rows = [{"name": name, "kind": kind, "prompt": name.lower()} for name, kind, _ in ROWS]
    (tmp_path / "styles.json").write_text(json.dumps(rows), encoding="utf-8")
    np.savez(tmp_path / "styles.npz", vec=np.zeros((3, 100), np.float16))
    shown = []
    with tarfile.open(tmp_path / "style_examples.tar", "w") as archive:
        for name, kind, colour in ROWS:
            if colour is None:
                continue
            file = ("sd35_" if kind == "sd35 style" else "") + name.lower().replace(" ", "_") + ".png"
            written = cv2.imencode(".png", np.full((40, 60, 3), colour[::-1], np.uint8))[1].tobytes()
            entry = tarfile.TarInfo(file)
            entry.size = len(written)
            archive.addfile(entry, io.BytesIO(written))
            shown.append({"file": file, "name": name, "prompt": name.lower()})
    (tmp_path / "style_examples.json").write_text(json.dumps(shown), encoding="utf-8")
    return tmp_path


def striped(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    made = np.full_like(picture, 30)
    made[::8] = 220
    return made


@pytest.fixture
def few() -> list[Concept]:
    """A drawn look, the two styles with examples, tags."""
    red, blue = np.full(100, -4, np.float32), np.full(100, -4, np.float32)
    red[0], blue[2] = 4, 4
    return [
        Concept("look/stripes", ["stripes"], drawn=striped),
        Concept("sdxl style/Toy Red", ["toy red"], vector=red),
        Concept("sd35 style/Toy Blue", ["toy blue"], vector=blue),
        Concept("tags/photo", ["photo"], vector=red),
    ]


def test_wanted_pictures_and_examples_are_looked_at_once_and_tell_styles_apart(
    made_up: Path, few: list[Concept], make_artist: Callable[[], PairArtist], planted_teacher: Any
) -> None:
    finisher, eye, path = Finisher(few, planted_teacher, CPU), PerceptualLoss(), made_up / "known.pt"

    def artist() -> PairArtist:
        made = make_artist()
        made.photos = made.photos // 8 + 112  # faint: what is seen is the style
        made.concepts, made.writer = few, lambda recipe, generator: "a picture"  # type: ignore[assignment]
        return made

    means, examples = known_styles(path, made_up, artist(), finisher, eye, seed=1)
    assert torch.load(path, weights_only=True)["samples"].shape[:2] == (3, ROUNDS)
    assert means.rows.tolist() == [0, 1, 2, -1], "tags are no style of their own"
    assert examples.rows.tolist() == [-1, 0, 1, -1], "a drawn look has no example"
    seen = sum(planted_teacher.counts)
    again = known_styles(path, made_up, artist(), finisher, eye, seed=1)
    assert all(torch.equal(one.centres, other.centres) for one, other in zip((means, examples), again, strict=True))
    assert sum(planted_teacher.counts) == seen
    others = artist()
    others.book = EachInTurn(few)
    pairs = others.drawn(9, np.random.default_rng(7))
    with torch.no_grad():
        statistics = joined_statistics(eye.features(signed(finisher(pairs))))
    numbers = torch.from_numpy(pairs.recipes[:, 0])
    assert float(means(statistics, numbers)[1]) == 1, "wanted pictures of other photos are nearest to their own style"
    assert float(examples(statistics, numbers)[1]) == 1, "and to the example in their colour"


def test_examples_are_found_by_kind_and_name_and_scaled_whole(made_up: Path, few: list[Concept]) -> None:
    found = exemplified(made_up, few)
    assert found == {1: "toy_red.png", 2: "sd35_toy_blue.png"}
    pictures = style_examples(made_up, list(found.values()))
    assert (
        pictures.shape == (2, 256, 256, 3) and pictures[0, 0, 0].tolist() == [200, 30, 30] and pictures[1, 9, 9].tolist() == [30, 30, 200]
    )


def test_every_style_of_the_judge_has_the_same_example_here(real_concepts: list[Concept]) -> None:
    found = {real_concepts[number].key: file for number, file in exemplified(DATA, real_concepts).items()}
    judged = {style.key: style.example for style in named_styles(DATA) if style.example is not None}
    assert found == judged and len(judged) > 400
