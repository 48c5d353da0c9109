"""Named segments: whose they are, and what the next start may remove."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import segments

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows frees segments by itself")

ROOT = Path(__file__).resolve().parents[2]
LEAVE_ONE = """
import os, sys
from multiprocessing import resource_tracker
from engine import segments
made = segments.create("left", 5000)
resource_tracker.unregister("/" + made.name, "shared_memory")  # as if the tracker had been killed too
print(made.name, flush=True)
if sys.argv[1] == "stay":
    sys.stdin.read()
os._exit(0)
"""


@pytest.fixture
def maker() -> Iterator[subprocess.Popen[str]]:
    process = leave("stay")
    yield process
    if process.stdin is not None:
        process.stdin.close()
    process.wait(30)


def leave(how: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", LEAVE_ONE, how],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def name_from(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_what_a_dead_process_left_is_removed_once() -> None:
    process = leave("go")
    name = name_from(process)
    process.wait(30)
    assert name in segments.present()
    assert name in segments.remove_orphans()
    assert name not in segments.present()
    assert name not in segments.remove_orphans()


def test_what_a_living_process_holds_stays(maker: subprocess.Popen[str]) -> None:
    name = name_from(maker)
    assert name not in segments.remove_orphans()
    assert name in segments.present()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="shared memory is no folder here")
def test_a_held_lock_counts_where_the_process_number_is_not_ours_to_judge(maker: subprocess.Popen[str]) -> None:
    # As from another container: a number that nobody has here, a lock that somebody holds.
    name = name_from(maker)
    foreign = Path("/dev/shm") / f"{segments.PREFIX}_4194305_in"
    os.rename(Path("/dev/shm") / name, foreign)
    try:
        assert foreign.name not in segments.remove_orphans()
        assert foreign.exists()
    finally:
        os.rename(foreign, Path("/dev/shm") / name)


def test_our_own_segment_is_zeroed_shared_and_gone_after_remove() -> None:
    made = segments.create("test", 10_000)
    assert made.name.startswith(f"phosphene_{os.getpid()}_test")
    assert len(made.name) <= 30  # macOS takes no more
    assert bytes(made.buffer[:10_000]) == bytes(10_000)
    other = segments.attach(made.name)
    made.buffer[9_999] = 7
    assert other.buffer[9_999] == 7
    assert made.name not in segments.remove_orphans()
    other.close()
    made.remove()
    assert made.name not in segments.present()
    with pytest.raises(FileNotFoundError):
        segments.attach(made.name)


def test_names_of_a_dead_maker_can_be_taken_away_by_another() -> None:
    process = leave("go")
    name = name_from(process)
    process.wait(30)
    segments.remove_named((name, "phosphene_1_never"))
    assert name not in segments.present()
