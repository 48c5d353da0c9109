"""Puts the training program's modules on the path, and makes pictures, concepts and a tokenizer for its tests."""

import sys
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from embedded.concepts import Concept, all_concepts  # noqa: E402
from embedded.looks import DRAWN  # noqa: E402
from embedded.style_teacher import StyleTable  # noqa: E402
from embedded.tokenizer import train_tokenizer  # noqa: E402

DATA = ROOT.parent / "shared" / "data"
TAUGHT = 90  # made-up style vectors: more than a meaning keeps numbers of


@pytest.fixture(scope="session")
def scene() -> npt.NDArray[np.uint8]:
    """A drawn scene, uint8 [256, 256, 3]: sky and ground, a sun, a house, a tree."""
    picture = np.zeros((256, 256, 3), np.uint8)
    picture[:150] = np.linspace((70, 120, 210), (190, 210, 240), 150)[:, None].astype(np.uint8)
    picture[150:] = np.linspace((90, 130, 60), (50, 70, 30), 106)[:, None].astype(np.uint8)
    cv2.circle(picture, (200, 50), 26, (250, 230, 130), -1)
    cv2.rectangle(picture, (50, 90), (140, 190), (190, 80, 60), -1)
    cv2.fillPoly(picture, [np.array([(40, 92), (95, 45), (150, 92)])], (90, 50, 45))
    cv2.rectangle(picture, (80, 135), (110, 190), (60, 40, 30), -1)
    cv2.rectangle(picture, (190, 130), (202, 205), (80, 55, 35), -1)
    cv2.circle(picture, (196, 118), 34, (40, 110, 45), -1)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.8), dtype=np.uint8)


@pytest.fixture(scope="session")
def style_table() -> StyleTable:
    """The real table of styles."""
    if not (DATA / "styles.json").exists():
        pytest.skip("the folder ../shared/data with the style table is absent")
    return StyleTable(DATA)


@pytest.fixture(scope="session")
def real_concepts(style_table: StyleTable) -> list[Concept]:
    """All that the shipped model learns."""
    return all_concepts(style_table)


@pytest.fixture(scope="session")
def toy_concepts() -> list[Concept]:
    """The drawn looks and made-up styles of random, correlated vectors."""
    generator = np.random.default_rng(4)
    vectors = (generator.normal(size=(TAUGHT, 100)) @ generator.normal(size=(100, 100)) + 3).astype(np.float32)
    looks = [Concept(f"look/{look.name}", list(look.prompts), drawn=look.drawn) for look in DRAWN]
    return looks + [Concept(f"painting/toy {i}", [f"toy {i}", f"in the manner of toy {i}"], vector=vectors[i]) for i in range(TAUGHT)]


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer that was trained on a few texts."""
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(["pencil sketch", "neon edges", "a dancer in neon style", "pencil drawing of a dancer"] * 5, folder, merges=60)
    return folder
