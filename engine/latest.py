"""A hand-over between two threads that keeps only the newest item and counts what it dropped."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """One slot: `put` replaces what nobody took, `take` empties it. Safe from any thread, never blocks for long."""

    def __init__(self) -> None:
        self._item: T | None = None
        self._arrived = threading.Condition()
        self.put_count = 0
        self.dropped = 0

    def put(self, item: T) -> None:
        """Offer the newest item; an item that was still waiting is dropped and counted."""
        with self._arrived:
            self.dropped += self._item is not None
            self.put_count += 1
            self._item = item
            self._arrived.notify()

    def take(self) -> T | None:
        """The waiting item, handed out once; None if there is none."""
        with self._arrived:
            item, self._item = self._item, None
            return item

    def wait(self, timeout_seconds: float) -> bool:
        """Wait until an item is there; False if none came in time."""
        with self._arrived:
            return self._arrived.wait_for(lambda: self._item is not None, timeout_seconds)
