"""What a live parameter is: kind, range, unit, and the rules by which a value becomes legal."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

Value = float | int | bool | str | tuple[int, ...] | None
"""A value of any kind; None is what a trigger has."""


class BadValue(ValueError):
    """The sender's mistake: a value that cannot be made legal. The text says what is expected."""


class Kind(enum.Enum):
    """What sort of value a parameter holds."""

    FLOAT = "float"
    INT = "int"
    TOGGLE = "toggle"
    CHOICE = "choice"
    TEXT = "text"
    TRIGGER = "trigger"
    LIST = "list"
    """Whole numbers, any count up to `longest`."""


class Applies(enum.Enum):
    """When a change takes effect."""

    NEXT_FRAME = "next frame"
    NEXT_CHUNK = "next chunk"
    RESTART = "restart"


NUMERIC = (Kind.FLOAT, Kind.INT, Kind.TOGGLE, Kind.CHOICE)
"""Kinds that travel as one double (a choice as its position)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One row of the table. A row that contradicts itself cannot be made (ValueError)."""

    name: str
    group: str
    kind: Kind
    doc: str
    default: Value = None
    range: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    unit: str = ""
    smoothing: float = 0.0
    logarithmic: bool = False
    applies: Applies = Applies.NEXT_FRAME
    read_only: bool = False
    formerly: tuple[str, ...] = field(default=())
    longest: int = 0

    def __post_init__(self) -> None:
        if self.kind in (Kind.FLOAT, Kind.INT, Kind.LIST) and self.range is None:
            raise ValueError(f"{self.name}: a {self.kind.value} needs a range")
        if self.kind is Kind.CHOICE and not self.choices:
            raise ValueError(f"{self.name}: a choice needs choices")
        if self.smoothing and self.kind is not Kind.FLOAT:
            raise ValueError(f"{self.name}: only a float can be smoothed")
        if self.logarithmic and (self.range is None or self.range[0] <= 0):
            raise ValueError(f"{self.name}: a logarithmic range starts above 0")
        if self.kind is not Kind.TRIGGER and self.coerce(self.default) != self.default:
            raise ValueError(f"{self.name}: the default {self.default!r} is not a legal value")

    def coerce(self, raw: object) -> Value:
        """The legal value that `raw` means: numbers are clamped, bool, int and float taken for each other.

        Raises BadValue for NaN, infinity and wrong types.
        """
        match self.kind:
            case Kind.FLOAT:
                return float(self._clamp(self._number(raw)))
            case Kind.INT:
                return round(self._clamp(self._number(raw)))
            case Kind.TOGGLE:
                return self._toggle(raw)
            case Kind.CHOICE:
                return self._choice(raw)
            case Kind.TEXT:
                return self._text(raw)
            case Kind.LIST:
                return self._whole_numbers(raw)
            case Kind.TRIGGER:
                return None

    def to_number(self, value: Value) -> float:
        """The double by which a numeric value travels."""
        return float(self.choices.index(str(value))) if self.kind is Kind.CHOICE else float(value)  # type: ignore[arg-type]

    def from_number(self, number: float) -> Value:
        """The value that a double means; the inverse of `to_number`."""
        return self.choices[round(number)] if self.kind is Kind.CHOICE else self.coerce(number)

    def to_unit_interval(self, value: float) -> float:
        """Where `value` stands between the ends of the range, 0..1, the way a knob would show it."""
        low, high = self._ends()
        if self.logarithmic:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low) if high > low else 0.0

    def from_unit_interval(self, position: float) -> Value:
        """The value at a knob's position 0..1 (clamped); the inverse of `to_unit_interval`."""
        low, high = self._ends()
        position = min(max(position, 0.0), 1.0)
        if self.logarithmic:
            return self.coerce(low * (high / low) ** position)
        number = low + position * (high - low)
        return self.from_number(number) if self.kind is Kind.CHOICE else self.coerce(number)

    def _ends(self) -> tuple[float, float]:
        if self.kind is Kind.CHOICE:
            return 0.0, float(len(self.choices) - 1)
        return self.range or (0.0, 1.0)

    def _clamp(self, number: float) -> float:
        low, high = self.range or (-math.inf, math.inf)
        return min(max(number, low), high)

    def _number(self, raw: object) -> float:
        if isinstance(raw, str):
            try:
                raw = float(raw)
            except ValueError:
                raise BadValue(f"{self.name} takes a number, not {raw!r}") from None
        if not isinstance(raw, (bool, int, float)):
            raise BadValue(f"{self.name} takes a number, not {type(raw).__name__}")
        if isinstance(raw, float) and not math.isfinite(raw):
            raise BadValue(f"{self.name} takes a finite number, not {raw}")
        try:
            return float(raw)
        except OverflowError:
            raise BadValue(f"{self.name} takes a number within reason") from None

    def _toggle(self, raw: object) -> bool:
        words = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False}
        if isinstance(raw, str) and raw.strip().lower() in words:
            return words[raw.strip().lower()]
        return self._number(raw) >= 0.5

    def _choice(self, raw: object) -> str:
        if isinstance(raw, str):
            word = raw.strip().lower().replace("-", "_").replace(" ", "_")
            if word in self.choices:
                return word
            raise BadValue(f"{self.name} is one of {', '.join(self.choices)}, not {raw!r}")
        return self.choices[round(min(max(self._number(raw), 0), len(self.choices) - 1))]

    def _text(self, raw: object) -> str:
        if isinstance(raw, (bool, int, float)):
            return str(raw)
        if not isinstance(raw, str):
            raise BadValue(f"{self.name} takes a text, not {type(raw).__name__}")
        return raw.replace("\0", "")[: self.longest or 10_000]

    def _whole_numbers(self, raw: object) -> tuple[int, ...]:
        if isinstance(raw, str):
            raw = raw.replace(",", " ").split()
        elif isinstance(raw, (bool, int, float)):
            raw = (raw,)
        if not isinstance(raw, Sequence):
            raise BadValue(f"{self.name} takes a list of whole numbers, not {type(raw).__name__}")
        if len(raw) > self.longest:
            raise BadValue(f"{self.name} takes at most {self.longest} numbers, not {len(raw)}")
        return tuple(round(self._clamp(self._number(item))) for item in raw)
