"""Whether another runtime is slower than torch, from the durations of calls that a stream makes anyway."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from engine.runtimes.runtime import Key

COUNTED = 30
"""Calls of the part called most that are counted in torch, and then as many in the other runtime."""
LEAST = 8
"""Calls that a part must have had in both to be compared; what comes more rarely hardly matters to the rate."""
SLOWER = 1.05
"""Ratio to torch from which the other counts as slower; nearer to 1 it cannot be told from chance."""


class Comparison:
    """First counts calls in torch, then, after the switch, calls in the other runtime.

    What makes it fair: both are counted one right after the other, under whatever else the machine does; neither while something
    is being compiled beside, which is for the caller to see to; and of each the lower quartile is taken, as other programs, the
    first calls of a runtime and waiting for the interpreter only ever add time, and to some calls only.
    """

    def __init__(self, keys: Iterable[Key]) -> None:
        self._torch: dict[Key, list[float]] = {key: [] for key in keys}
        self._other: dict[Key, list[float]] = {key: [] for key in self._torch}
        self.switched = False

    def count(self, key: Key, seconds: float) -> None:
        """A call of one of the keys, in torch before the switch and in the other runtime after it."""
        (self._other if self.switched else self._torch)[key].append(seconds)

    def forget(self, key: Key) -> None:
        """Leave a key out of the comparison."""
        del self._torch[key], self._other[key]

    @property
    def keys(self) -> tuple[Key, ...]:
        """What is compared."""
        return tuple(self._torch)

    @property
    def counted(self) -> bool:
        """Whether there are calls enough of the runtime that runs at present."""
        return any(len(durations) >= COUNTED for durations in (self._other if self.switched else self._torch).values())

    def ratio(self) -> float:
        """Seconds of the other for each second of torch: sums over the keys of the lower quartile of their durations.

        1 if no key was called often enough in both.
        """
        keys = [key for key in self._torch if min(len(self._torch[key]), len(self._other[key])) >= LEAST]
        torchs, others = (sum(float(np.quantile(calls[key], 0.25)) for key in keys) for calls in (self._torch, self._other))
        return others / torchs if torchs > 0.0 else 1.0
