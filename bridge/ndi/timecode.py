"""NDI times as pure arithmetic: timecodes in 100 ns ticks and frame rates as fractions. No clock is read here."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

TICKS_PER_SECOND = 10_000_000
"""An NDI timecode counts 100 ns."""

LAST_TIMECODE = 2**63 - 2
"""The number above it asks the NDI library to make up a timecode."""

NTSC_TOLERANCE = 0.005
"""A rate this near to n * 1000 / 1001 frames a second means that fraction (29.97, 59.94)."""


def ticks_from_seconds(seconds: float) -> int:
    """Seconds as 100 ns ticks, rounded to the nearest."""
    return round(seconds * TICKS_PER_SECOND)


def seconds_from_ticks(ticks: int) -> float:
    """100 ns ticks as seconds."""
    return ticks / TICKS_PER_SECOND


@dataclass(frozen=True, slots=True)
class TimecodeScale:
    """How monotonic seconds lie against the timecodes of one run.

    offset_ticks: the timecode of monotonic second 0. With the Unix time there, timecodes are UTC,
    as NDI's own are; the whole run keeps one offset, so a stepped wall clock never bends timecodes.
    """

    offset_ticks: int = 0

    @classmethod
    def from_clocks(cls, *, monotonic_seconds: float, unix_seconds: float) -> TimecodeScale:
        """The scale by which the two readings, taken at one moment, are the same instant."""
        return cls(offset_ticks=ticks_from_seconds(unix_seconds) - ticks_from_seconds(monotonic_seconds))

    def timecode(self, captured_at: float) -> int:
        """The timecode of a monotonic moment, in [0, LAST_TIMECODE]."""
        return min(max(ticks_from_seconds(captured_at) + self.offset_ticks, 0), LAST_TIMECODE)

    def captured_at(self, timecode: int) -> float:
        """The monotonic moment of a timecode of this scale, in seconds."""
        return seconds_from_ticks(timecode - self.offset_ticks)


def exact_rate(rate: float | Fraction) -> Fraction:
    """Frames a second as the fraction that video means by it: 29.97 -> 30000/1001, 30.0 -> 30, 12.5 -> 25/2.

    Raises ValueError outside 1/10 to 1000 frames a second.
    """
    if not 0.1 <= rate <= 1000:
        raise ValueError(f"an NDI frame rate lies between 0.1 and 1000 frames a second, {rate} does not")
    if isinstance(rate, Fraction):
        return rate.limit_denominator(1_000_000)
    whole = round(rate)
    if abs(rate - whole) < 1e-6:
        return Fraction(whole)
    ntsc = Fraction(round(rate * 1.001) * 1000, 1001)
    if ntsc > 0 and abs(rate - ntsc) < NTSC_TOLERANCE:
        return ntsc
    return Fraction(rate).limit_denominator(1001)


def rate_pair(rate: Fraction) -> tuple[int, int]:
    """(numerator, denominator) as NDI receivers are used to see them: 30 -> (30000, 1000), NTSC -> (.., 1001)."""
    scale = 1000 if rate.denominator <= 1000 and rate.numerator <= 1_000_000 else 1
    return rate.numerator * scale, rate.denominator * scale
