"""docs/video_policies.md names every policy there is, says all it promises of each, and names only tests that exist."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import pytest

import engine.models
import engine.pipelines
import engine.video
from engine.models.video_codec import VideoCodec
from engine.models.video_policies import CACHES, NOISES, ON_PROMPT, POSITIONS, SCHEDULERS
from engine.pipelines.codec_rank import CodecOnRank
from engine.video.cache_policies import CachePolicy
from engine.video.noise_control import NoisePolicy
from engine.video.phased_batch import Line
from engine.video.positions import PositionPolicy
from engine.video.recaching import ContextPolicy
from engine.video.schedulers import StepScheduler

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "video_policies.md").read_text(encoding="utf-8")
CONTRACTS = (StepScheduler, PositionPolicy, ContextPolicy, NoisePolicy, VideoCodec, Line)
COLUMNS = ["policy", "name", "formula", "source", "cost", "when", "tests"]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("|")]
POLICIES = [row for row in ROWS if row != COLUMNS and not set(row[0]) <= set("-")]


def modules(package: ModuleType, prefix: str = "") -> list[ModuleType]:
    return [
        importlib.import_module(f"{package.__name__}.{found.name}")
        for found in pkgutil.iter_modules(package.__path__)
        if found.name.startswith(prefix)
    ]


def fulfils(kind: type, contract: type) -> bool:
    """Whether a class has everything that a contract asks for; the contract itself does not count."""
    members = vars(contract).items()
    asked = [name for name, value in members if not name.startswith("_") and (callable(value) or isinstance(value, property))]
    return kind is not contract and bool(asked) and all(hasattr(kind, name) for name in asked)


def policy_classes() -> set[str]:
    """Found by what they can do, wherever they are."""
    there = [*modules(engine.video), *modules(engine.models, "video_codec"), *modules(engine.pipelines)]
    kinds = {kind for module in there for kind in vars(module).values() if inspect.isclass(kind) and kind.__module__ == module.__name__}
    found = {kind.__name__ for kind in kinds if issubclass(kind, CachePolicy) or any(fulfils(kind, contract) for contract in CONTRACTS)}
    return found | {CodecOnRank.__name__}


def existing_tests() -> set[str]:
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "tests").rglob("test_*.py"))
    return {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_policy_class_stands_in_the_table() -> None:
    named = {name for row in POLICIES for name in re.findall(r"`(\w+)`", row[0])}
    found = policy_classes()
    known = {"Sequential", "MovingBuffer", "DeepSinks", "RecacheOnSwitch", "ResetPositions", "MotionAwareNoise", "StreamTaehv", "RingHead"}
    assert known <= found  # what looks for them finds them
    assert not found - named


def test_every_name_that_a_model_may_choose_stands_in_the_table() -> None:
    named = {name for row in POLICIES for name in re.findall(r"`(\w+)`", row[1])}
    assert not {*SCHEDULERS, *CACHES, *POSITIONS, *NOISES, *ON_PROMPT} - named


@pytest.mark.parametrize("row", POLICIES, ids=lambda row: row[0])
def test_a_row_says_all_it_promises(row: list[str]) -> None:
    assert len(row) == len(COLUMNS) and all(row)
    assert re.findall(r"`test_\w+`", row[-1])


def test_every_test_that_is_named_exists() -> None:
    assert not set(re.findall(r"`(test_\w+)`", TEXT)) - existing_tests()
