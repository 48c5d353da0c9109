"""The other ranks of a stream, started by rank 0 as processes of its own and gone with it."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

from engine.gpu.heartbeat import LOST_EXIT, Lost
from engine.gpu.meeting_folder import MeetingFolder, remove_orphans
from engine.gpu.ranks import Place, end_process

RankMain = Callable[..., None]
"""main(place, *arguments): the whole life of a rank but the first. Importable: a rank is a new interpreter."""

_START = "from engine.pipelines.rank_group import live; live()"


class RankGroup:
    """Ranks 1 and up. Whoever dies takes the group with it: rank 0 ends (`lost`), its parent starts it again, and so all of them.

    Plain child processes: the engine process is a daemon of multiprocessing, which may have no children of that kind.
    """

    def __init__(self, main: RankMain, ranks: int, arguments: tuple[object, ...] = (), *, lost: Lost = end_process) -> None:
        """Start them. lost: called from a thread, once, if one of them fails before `leave`, even one that has not joined yet."""
        remove_orphans()
        self._folder = MeetingFolder()
        meeting = self._folder.path / "meeting"
        self.place = Place(0, ranks, meeting)
        self._lost, self._over = lost, threading.Lock()
        self._processes = [_start(main, Place(rank, ranks, meeting), arguments) for rank in range(1, ranks)]
        for rank, process in enumerate(self._processes, start=1):
            threading.Thread(target=self._watch, args=(rank, process), name=f"rank {rank} watch", daemon=True).start()

    def leave(self, timeout_seconds: float = 10.0) -> None:
        """Wait for the ranks, which were told to stop; end those that do not."""
        self._over.acquire(blocking=False)
        for process in self._processes:
            try:
                process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()
        self._folder.remove()

    def _watch(self, rank: int, process: subprocess.Popen[bytes]) -> None:
        if process.wait() != 0 and self._over.acquire(blocking=False):
            self._folder.remove()
            self._lost(rank)


def _start(main: RankMain, place: Place, arguments: tuple[object, ...]) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen([sys.executable, "-c", _START], stdin=subprocess.PIPE, env=environment)
    assert process.stdin is not None
    pickle.dump((main, place, arguments), process.stdin)
    process.stdin.flush()  # and it stays open: its end is the end of rank 0
    return process


def live() -> None:
    """The whole life of a rank: what to do comes through standard input, which ends with rank 0."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; rank 0's parent decides what happens
    main, place, arguments = pickle.load(sys.stdin.buffer)

    def watch() -> None:
        while sys.stdin.buffer.read(1):
            pass
        os._exit(LOST_EXIT)

    threading.Thread(target=watch, name="rank 0 watch", daemon=True).start()
    main(place, *arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # the watch may hold standard input, which must not keep the process from ending
