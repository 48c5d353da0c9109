"""Ranks of a group that notice each other's death: one loopback connection from every rank to rank 0, and a beat on each.

A process that ends, however, closes its connection, which is noticed at once; one that hangs stops beating. Rank 0 passes a loss on
by being lost itself. No torch here.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from multiprocessing import AuthenticationError, connection
from multiprocessing.connection import Connection, Listener

BEAT_SECONDS = 0.25
SILENCE_SECONDS = 1.5
"""Without a beat for so long a rank counts as lost: noticed within 2 s whatever happened."""
LOST_EXIT = 75
"""Exit status of a rank that lost another one: the group is to be started again."""
_BEAT, _LEAVING = b"beat", b"leaving"

Lost = Callable[[int], None]
"""Called from the heartbeat's thread, once, with the rank that was lost."""


class Heartbeat:
    """Beats until it is told to leave."""

    def __init__(self, connections: dict[int, Connection], lost: Lost) -> None:
        """connections: to every other rank (rank 0), or to rank 0 alone."""
        self._connections, self._lost = connections, lost
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """The others are not to take the end of this rank for a loss."""
        self._leaving.set()
        self._thread.join()

    def _run(self) -> None:
        lost = self._beat()
        for link in self._connections.values():
            link.close()  # to rank 0's others this is its loss: so one that is lost is lost to all
        if lost is not None:
            self._lost(lost)

    def _beat(self) -> int | None:
        """Until this rank or all others leave (None), or one is lost."""
        heard = dict.fromkeys(self._connections, time.monotonic())
        next_beat = 0.0
        while not self._leaving.is_set():
            now = time.monotonic()
            if now >= next_beat:
                next_beat = now + BEAT_SECONDS
                self._send(_BEAT)
            ready = set(connection.wait(list(self._connections.values()), timeout=max(next_beat - now, 0.0)))
            for rank, link in list(self._connections.items()):
                if link in ready:
                    word = _received(link)
                    if word == _LEAVING:
                        del self._connections[rank]
                        continue
                    if word is None:
                        return rank
                    heard[rank] = time.monotonic()
                elif time.monotonic() - heard[rank] > SILENCE_SECONDS:
                    return rank
            if not self._connections:
                return None
        self._send(_LEAVING)
        return None

    def _send(self, word: bytes) -> None:
        for link in self._connections.values():
            with contextlib.suppress(OSError):  # read from next, a closed one says so
                link.send_bytes(word)


def _received(link: Connection) -> bytes | None:
    try:
        return link.recv_bytes(len(_LEAVING))
    except (EOFError, OSError):
        return None


class Meeting:
    """Where rank 0 waits for the others: a port of the loopback interface that the system chose."""

    def __init__(self, key: bytes) -> None:
        """key: shared by the group; who does not have it is turned away."""
        self._listener = Listener(("127.0.0.1", 0), authkey=key)

    @property
    def port(self) -> int:
        """For the others."""
        return int(self._listener.address[1])

    def gather(self, ranks: int, lost: Lost) -> Heartbeat:
        """Wait for ranks 1 to `ranks` - 1, then beat."""
        links: dict[int, Connection] = {}
        while len(links) < ranks - 1:
            with contextlib.suppress(AuthenticationError, EOFError, OSError):  # a stranger at the port
                link = self._listener.accept()
                links[int.from_bytes(link.recv_bytes(4), "little")] = link
        self._listener.close()
        return Heartbeat(links, lost)


def join(port: int, rank: int, key: bytes, lost: Lost) -> Heartbeat:
    """Tell rank 0 that `rank` is there, then beat."""
    link = connection.Client(("127.0.0.1", port), authkey=key)
    link.send_bytes(rank.to_bytes(4, "little"))
    return Heartbeat({0: link}, lost)
