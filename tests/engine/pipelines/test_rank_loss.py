"""A rank that dies or hangs takes nobody by surprise, and the group can start again."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from engine.gpu.heartbeat import LOST_EXIT
from tests.engine.pipelines.idle_ranks import idle_head

SPAWN = multiprocessing.get_context("spawn")
GROUP_SECONDS = 120.0


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank 0 that is killed leaves its meeting place to the next start."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@contextmanager
def started(main: object, *arguments: object) -> Iterator[BaseProcess]:
    process = SPAWN.Process(target=main, args=arguments)  # type: ignore[arg-type]
    process.start()
    try:
        yield process
    finally:
        process.kill()  # its ranks end with it
        process.join()


def pids_of(process: BaseProcess, folder: Path, ranks: int) -> list[int]:
    """Once the whole group has met."""
    wanted = [folder / f"{rank}.pid" for rank in range(ranks)]
    deadline = time.monotonic() + GROUP_SECONDS
    while not all(path.exists() and path.read_text() for path in wanted):
        assert process.is_alive() and time.monotonic() < deadline
        connection.wait([process.sentinel], timeout=0.05)
    return [int(path.read_text()) for path in wanted]


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
@pytest.mark.parametrize(("victim", "how"), [(1, signal.SIGKILL), (2, signal.SIGSTOP), (0, signal.SIGKILL)])
def test_the_loss_of_a_rank_is_noticed_by_all_within_two_seconds(tmp_path: Path, victim: int, how: int) -> None:
    with started(idle_head, tmp_path, 3) as process:
        pids = pids_of(process, tmp_path, 3)
        others = [pid for rank, pid in enumerate(pids) if rank != victim]
        lost_at = time.monotonic()
        os.kill(pids[victim], how)
        try:
            while not all(is_gone(pid) for pid in others) and time.monotonic() < lost_at + 2.0:
                connection.wait([process.sentinel], timeout=0.02)
            assert all(is_gone(pid) for pid in others)
            process.join(1.0)
            assert process.exitcode == (LOST_EXIT if victim else -signal.SIGKILL)
        finally:
            if not is_gone(pids[victim]):
                os.kill(pids[victim], signal.SIGKILL)


def test_a_group_whose_rank_died_starts_again(tmp_path: Path) -> None:
    """The parent only sees that rank 0 ended and why; starting it again is all it has to do."""
    pids: list[list[int]] = []
    for attempt in ("first", "second"):
        folder = tmp_path / attempt
        folder.mkdir()
        with started(idle_head, folder, 2) as process:
            pids.append(pids_of(process, folder, 2))
            if attempt == "first":
                os.kill(pids[0][1], signal.SIGTERM)
                process.join(2.0)
                assert process.exitcode == LOST_EXIT
    assert not set(pids[0]) & set(pids[1])
