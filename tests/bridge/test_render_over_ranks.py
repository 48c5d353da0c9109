"""`phosphene render` of a video model over two ranks, which it starts itself or torchrun has: the pictures of one process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.engine.models.conftest import tiny_wan  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
SECONDS = 200.0


def render(clip: Path, out: Path, model: Path, *options: str, launcher: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable, *launcher, "-m", "bridge", "render", f"frames:{clip}", f"frames:{out}", "--model", str(model), "--device", "cpu",
        "--dtype", "float32", "--size", "64x64", "--set", "steps=1", "--set", "chunk_frames=1", "--quiet", *options,
    ]  # fmt: skip
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    y, x = np.mgrid[:64, :64]
    for index in range(13):
        picture = np.stack([127 + 100 * np.sin((x * k + y + 4 * index) / 9.0) for k in (1, 2, 3)], axis=-1)
        cv2.imwrite(str(folder / f"{index:03d}.png"), picture.astype(np.uint8))
    return folder


def pictures(folder: Path) -> list[np.ndarray]:
    return [np.asarray(cv2.imread(str(path))) for path in sorted(folder.glob("*.png"))]


@pytest.mark.parametrize(
    ("launcher", "more"),
    [((), ("--parallel", "layers")), (TORCHRUN, ("--parallel", "layers")), (TORCHRUN, ("--codec-rank",))],
    ids=["own", "torchrun", "torchrun codec"],
)
def test_a_rendering_over_two_ranks_is_that_of_one_process(
    clip: Path, tiny_wan: Path, tmp_path: Path, launcher: tuple[str, ...], more: tuple[str, ...]  # noqa: F811
) -> None:
    alone = render(clip, tmp_path / "one", tiny_wan, "--set", "step_scheduler=stream_batch")
    assert alone.returncode == 0, alone.stderr
    shared = render(clip, tmp_path / "two", tiny_wan, "--set", "step_scheduler=stream_batch", "--ranks", "2", *more, launcher=launcher)
    assert shared.returncode == 0, shared.stderr
    one, two = pictures(tmp_path / "one"), pictures(tmp_path / "two")
    assert len(one) == len(two) == 13 and all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert "lost" not in shared.stderr


def test_an_image_model_over_ranks_is_one_plain_line(clip: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bridge", "render", f"frames:{clip}", f"frames:{tmp_path / 'out'}", "--ranks", "2", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 2 and done.stderr.startswith("phosphene: ") and "does not go over ranks" in done.stderr
    assert done.stderr.count("\n") == 1
