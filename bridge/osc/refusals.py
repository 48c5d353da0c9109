"""Counts what was refused, by reason, and writes a bounded number of log lines about it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

LINES_PER_SECOND = 5
"""Log lines in any one second, whatever arrives."""
REMEMBERED = 256
"""Different mistakes that are named once each; after that many only the counters go on."""

log = logging.getLogger("phosphene.osc")


class Refusals:
    """The counters, and the memory of what was said already. For one thread; `counts` may be copied from another."""

    def __init__(self, *, now: Callable[[], float]) -> None:
        self._now = now
        self._counts: Counter[str] = Counter()
        self._said: set[str] = set()
        self._second = -1
        self._lines = 0

    @property
    def counts(self) -> dict[str, int]:
        """Refusals by reason."""
        return dict(self._counts)

    def add(self, reason: str, *, about: str, sender: str, explain: Callable[[], str] | None = None) -> None:
        """Count one refusal; the first of each reason and `about` is logged, with what `explain` says, if lines are left."""
        self._counts[reason] += 1
        key = f"{reason} {about}"
        if key in self._said or len(self._said) >= REMEMBERED or not self._line_is_left():
            return
        self._said.add(key)
        log.warning("OSC from %s refused: %s", sender, explain() if explain else key)

    def _line_is_left(self) -> bool:
        second = int(self._now())
        if second != self._second:
            self._second, self._lines = second, 0
        self._lines += 1
        return self._lines <= LINES_PER_SECOND
