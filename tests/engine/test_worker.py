"""What the engine process decides by itself; the process as a whole is tested where it is supervised."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from engine.control.parameter import BadValue
from engine.pipelines.build import build_stream
from engine.pipelines.passthrough import Passthrough
from engine.settings import SettingsError
from engine.shared_frames import FrameTooLarge
from engine.worker import BUILD_STREAM, describe, find_build, is_users_mistake


class NoSuchModel(SettingsError):
    """A mistake with a name of its own."""


@pytest.mark.parametrize("error", [SettingsError("x"), NoSuchModel("x"), BadValue("x"), FrameTooLarge("x")])
def test_mistakes_are_the_users(error: Exception) -> None:
    assert is_users_mistake(error)


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("x"), MemoryError(), OSError("x")])
def test_faults_are_ours(error: Exception) -> None:
    assert not is_users_mistake(error)


def test_a_stream_is_found_by_its_path_and_described() -> None:
    assert find_build(BUILD_STREAM) is build_stream
    described = describe(Passthrough())
    assert described == {"model": "passthrough", "device": "none", "dtype": "uint8", "runtime": "none", "size": [0, 0]}


def test_neither_side_of_the_process_border_imports_torch() -> None:
    code = "import sys, engine.worker, engine.loop, bridge.supervisor, bridge.in_process; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[2]).returncode == 0
