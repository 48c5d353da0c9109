"""The other ranks of a stream, started by rank 0 as processes of its own and gone with it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from multiprocessing import connection
from pathlib import Path

from engine.gpu.heartbeat import Lost
from engine.gpu.ranks import LOST_EXIT, Place, end_process

RankMain = Callable[..., None]
"""main(place, *arguments): the whole life of a rank but the first. Importable, as `spawn` needs it."""


class RankGroup:
    """Ranks 1 and up. Whoever dies takes the group with it: rank 0 ends (`lost`), its parent starts it again, and so all of them."""

    def __init__(self, main: RankMain, ranks: int, arguments: tuple[object, ...] = (), *, lost: Lost = end_process) -> None:
        """Start them. lost: called from a thread when one of them ended before `leave`, even one that has not joined yet."""
        self._folder = Path(tempfile.mkdtemp(prefix="phosphene-ranks-"))
        meeting = self._folder / "meeting"
        self.place = Place(0, ranks, meeting)
        spawn = multiprocessing.get_context("spawn")
        self.processes = [
            spawn.Process(target=_live, args=(main, Place(rank, ranks, meeting), arguments), name=f"rank {rank}", daemon=True)
            for rank in range(1, ranks)
        ]
        for process in self.processes:
            process.start()
        self._leaving = threading.Event()
        threading.Thread(target=self._watch, args=(lost,), name="ranks watch", daemon=True).start()

    def leave(self, timeout_seconds: float = 10.0) -> None:
        """Wait for the ranks, which were told to stop; end those that do not."""
        self._leaving.set()
        for process in self.processes:
            process.join(timeout_seconds)
            if process.is_alive():
                process.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _watch(self, lost: Lost) -> None:
        running = {process.sentinel: process for process in self.processes}
        while running:
            for sentinel in connection.wait(list(running)):
                process = running.pop(sentinel)  # type: ignore[arg-type]
                process.join()
                if process.exitcode != 0 and not self._leaving.is_set():
                    shutil.rmtree(self._folder, ignore_errors=True)
                    lost(self.processes.index(process) + 1)
                    return


def _live(main: RankMain, place: Place, arguments: tuple[object, ...]) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        sentinel = parent.sentinel

        def watch() -> None:
            connection.wait([sentinel])
            os._exit(LOST_EXIT)

        threading.Thread(target=watch, name="parent watch", daemon=True).start()
    main(place, *arguments)
