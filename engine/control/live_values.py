"""The live values of all parameters: written by devices from any thread, read as one smoothed snapshot a frame."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from engine.control.parameter import BadValue, Kind, Parameter, Value
from engine.control.smoothing import approach
from engine.control.table import NUMBERS, TABLE, find


@dataclass(frozen=True, slots=True)
class Change:
    """One parameter that has a new value, and who gave it (so that nobody is echoed his own change)."""

    name: str
    value: Value
    origin: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The values of one frame: consistent, smoothed, unchanging.

    fired: the triggers of this frame. seconds: time since the first snapshot, the clock of everything that moves by itself.
    """

    values: Mapping[str, Value]
    fired: frozenset[str] = frozenset()
    seconds: float = 0.0

    def number(self, name: str) -> float:
        """A float."""
        return float(self.values[name])  # type: ignore[arg-type]

    def whole(self, name: str) -> int:
        """An int."""
        return int(self.values[name])  # type: ignore[arg-type]

    def toggle(self, name: str) -> bool:
        """A toggle."""
        return bool(self.values[name])

    def text(self, name: str) -> str:
        """A text or a choice."""
        return str(self.values[name])

    def whole_numbers(self, name: str) -> tuple[int, ...]:
        """A list."""
        return tuple(self.values[name])  # type: ignore[arg-type]


class LiveValues:
    """State and events: of a value the newest wins, a trigger arrives in exactly one snapshot. Safe from any thread."""

    def __init__(self, table: Iterable[Parameter] = TABLE) -> None:
        self._table = tuple(table)
        self._lock = threading.Condition()
        self._targets: dict[str, Value] = {row.name: row.default for row in self._table if row.kind is not Kind.TRIGGER}
        self._shown: dict[str, float] = {row.name: float(row.default) for row in self._table if row.smoothing}  # type: ignore[arg-type]
        self._smoothing = {row.name: row.smoothing for row in self._table if row.smoothing}
        self._fired: set[str] = set()
        self._changed: dict[str, tuple[int, str]] = {}
        self._version = 0
        self._seconds = 0.0

    @property
    def version(self) -> int:
        """Counts every change and every trigger."""
        return self._version

    def set(self, name: str, raw: object, origin: str = "") -> Value:
        """Give a parameter a value, or fire it if it is a trigger. Returns the legal value.

        Raises UnknownParameter, and BadValue for a value of the wrong type or a readout.
        """
        return self.set_many({name: raw}, origin)[find(name).name]

    def set_many(self, raws: Mapping[str, object], origin: str = "") -> dict[str, Value]:
        """Give several parameters their values in one go: all, or none if one is refused. Errors as in `set`."""
        legal: dict[str, Value] = {}
        for name, raw in raws.items():
            row = find(name)
            if row.read_only:
                raise BadValue(f"{row.name} is a readout and cannot be set")
            legal[row.name] = row.coerce(raw)
        self._take(legal, origin)
        return legal

    def report(self, readouts: Mapping[str, object], origin: str = "engine") -> None:
        """Set readouts, which nobody else may."""
        self._take({name: find(name).coerce(raw) for name, raw in readouts.items()}, origin)

    def _take(self, legal: Mapping[str, Value], origin: str) -> None:
        with self._lock:
            for name, value in legal.items():
                trigger = name not in self._targets
                if trigger:
                    self._fired.add(name)
                elif self._targets[name] == value:
                    continue
                else:
                    self._targets[name] = value
                self._version += 1
                self._changed[name] = (self._version, origin)
            self._lock.notify_all()

    def get(self, name: str) -> Value:
        """The value asked for (not the smoothed one on its way there); None for a trigger."""
        with self._lock:
            return self._targets.get(find(name).name)

    def snapshot(self, dt_seconds: float) -> Snapshot:
        """The values of the next frame, `dt_seconds` after the last snapshot. Takes the triggers fired since."""
        with self._lock:
            for name, time_constant in self._smoothing.items():
                target = float(self._targets[name])  # type: ignore[arg-type]
                self._shown[name] = approach(self._shown[name], target, dt_seconds, time_constant=time_constant)
            fired, self._fired = frozenset(self._fired), set()
            self._seconds += max(dt_seconds, 0.0)
            return Snapshot(values=MappingProxyType(self._targets | self._shown), fired=fired, seconds=self._seconds)

    def jump(self) -> None:
        """End all smoothing: the next snapshot shows the targets. For a start, not for a live stream."""
        with self._lock:
            self._shown = {name: float(self._targets[name]) for name in self._shown}  # type: ignore[arg-type]

    def changes_since(self, version: int) -> tuple[int, list[Change]]:
        """What changed after `version` (triggers too, newest value only), and the version to ask with next."""
        with self._lock:
            changes = [
                Change(name=name, value=self._targets.get(name), origin=origin)
                for name, (when, origin) in self._changed.items()
                if when > version
            ]
            return self._version, changes

    def wait_for_change(self, version: int, timeout_seconds: float) -> bool:
        """Wait until something changed after `version`; False if nothing did in time."""
        with self._lock:
            return self._lock.wait_for(lambda: self._version > version, timeout_seconds)

    def targets(self) -> dict[str, Value]:
        """All values asked for, by name, triggers left out."""
        with self._lock:
            return dict(self._targets)


def numbers_of(values: Mapping[str, Value]) -> list[float]:
    """The block of doubles by which numeric values travel: `NUMBERS` order."""
    return [row.to_number(values[row.name]) for row in NUMBERS]


def values_of(numbers: Iterable[float]) -> dict[str, Value]:
    """The inverse of `numbers_of`."""
    return {row.name: row.from_number(number) for row, number in zip(NUMBERS, numbers, strict=True)}
