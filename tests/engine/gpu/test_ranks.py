"""The heartbeat between ranks, in threads of one process; limits of messages; ranks that torchrun starts, and starts again."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from multiprocessing import AuthenticationError, connection
from pathlib import Path

import pytest
import torch

from engine.gpu.heartbeat import Heartbeat, Meeting, join
from engine.gpu.ranks import WORDS_BYTES, Place, Ranks, place_from_environment

KEY = b"of the group"
PATIENCE = 10.0


class Losses:
    """What was lost, and a wait for it."""

    def __init__(self) -> None:
        self.ranks: list[int] = []
        self._told = threading.Event()

    def __call__(self, rank: int) -> None:
        self.ranks.append(rank)
        self._told.set()

    def wait(self) -> list[int]:
        assert self._told.wait(PATIENCE)
        return self.ranks


def test_ranks_that_leave_in_order_are_no_loss() -> None:
    meeting, losses, joined = Meeting(KEY), [Losses() for _ in range(3)], list[Heartbeat]()
    others = [threading.Thread(target=lambda rank=rank: joined.append(join(meeting.port, rank, KEY, losses[rank]))) for rank in (1, 2)]
    for other in others:
        other.start()
    first = meeting.gather(3, losses[0])
    for other in others:
        other.join()
    for beat in (first, *joined):
        beat.leave()
    assert [loss.ranks for loss in losses] == [[], [], []]


def test_who_closes_without_a_word_is_lost_and_rank_0_with_it_for_the_others() -> None:
    meeting, losses = Meeting(KEY), [Losses() for _ in range(3)]
    links: list[connection.Connection] = []

    def dying() -> None:
        link = connection.Client(("127.0.0.1", meeting.port), authkey=KEY)
        link.send_bytes((2).to_bytes(4, "little"))
        links.append(link)

    threads = [threading.Thread(target=dying), threading.Thread(target=lambda: join(meeting.port, 1, KEY, losses[1]))]
    for thread in threads:
        thread.start()
    meeting.gather(3, losses[0])
    for thread in threads:
        thread.join()
    links[0].close()
    assert losses[0].wait() == [2] and losses[1].wait() == [0]


def test_who_is_silent_is_lost() -> None:
    meeting, losses = Meeting(KEY), Losses()
    links: list[connection.Connection] = []

    def silent() -> None:
        links.append(connection.Client(("127.0.0.1", meeting.port), authkey=KEY))
        links[0].send_bytes((1).to_bytes(4, "little"))

    thread = threading.Thread(target=silent)
    thread.start()
    meeting.gather(2, losses)
    thread.join()
    assert losses.wait() == [1]


def test_a_stranger_is_turned_away_and_the_group_still_meets() -> None:
    meeting, losses, joined = Meeting(KEY), Losses(), list[Heartbeat]()

    def arrive() -> None:
        with pytest.raises((AuthenticationError, EOFError, OSError)):
            connection.Client(("127.0.0.1", meeting.port), authkey=b"another key")
        joined.append(join(meeting.port, 1, KEY, losses))

    thread = threading.Thread(target=arrive)
    thread.start()
    beat = meeting.gather(2, losses)
    thread.join()
    beat.leave()
    joined[0].leave()
    assert losses.ranks == []


def test_words_that_are_too_long_are_refused_before_anything_is_sent(tmp_path: Path) -> None:
    ranks = Ranks(Place(0, 1, tmp_path / "meeting"), torch.device("cpu"))
    with pytest.raises(ValueError, match="bytes of words"):
        ranks.send(0, {"much": "x" * WORDS_BYTES})
    ranks.leave()


def test_a_process_of_its_own_has_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert place_from_environment() is None
    for name, value in {"RANK": "1", "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert place_from_environment() == Place(1, 3, None)


PROGRAM = """
import sys
from pathlib import Path
import torch
from engine.gpu.ranks import Ranks, place_from_environment

place = place_from_environment()
ranks = Ranks(place, torch.device("cpu"))
folder = Path(sys.argv[1])
if place.rank == 0:
    ranks.send(1, {"a": [1]}, [torch.arange(3), torch.zeros(0, 4)])
elif not (folder / "died").exists():
    (folder / "died").touch()
    sys.exit(9)
else:
    words, (numbers, nothing) = ranks.receive(0)
    assert words == {"a": [1]} and numbers.tolist() == [0, 1, 2] and nothing.shape == (0, 4)
    (folder / "received").touch()
ranks.leave()
"""


def test_torchrun_starts_ranks_and_starts_them_again_when_one_died(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*torchrun, str(program), str(tmp_path)], env=environment, capture_output=True, timeout=120, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "received").exists()
