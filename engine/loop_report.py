"""What the run loop tells: its figures, and what went wrong in plain words. It measures nothing itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from engine.control.parameter import BadValue
from engine.ports import Stream
from engine.settings import SettingsError
from engine.shared_frames import FrameTooLarge
from engine.video.slo_report import Punctuality

MISTAKES = (SettingsError, BadValue, FrameTooLarge)
"""Errors that say what somebody asked for and cannot have. They never end the engine."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the loop tells about 10 times a second. Counts are of this run of the loop; fps is of the last second."""

    state: str
    fps: float
    frames_in: int
    frames_out: int
    skipped: int
    stage_ms: Mapping[str, float] = field(default_factory=dict)
    punctuality: Mapping[str, float] = field(default_factory=dict)
    """Of a stream that keeps account of it: first_frame_ms, latency_p50_ms, latency_p95_ms, jitter_ms, deadline_misses."""
    error: str = ""
    """The last failure in plain words, until all was well for some seconds."""


@runtime_checkable
class Punctual(Protocol):
    """A stream that keeps account of its punctuality."""

    def punctuality(self) -> Punctuality:
        """Of this stream since its start or last reset."""
        ...


def punctuality_of(stream: Stream) -> dict[str, float]:
    """What a stream says of its punctuality, for people: see Report; empty if it keeps no account."""
    if not isinstance(stream, Punctual):
        return {}
    told = stream.punctuality()
    if told.first_frame is None:
        return {}
    seconds = {"first_frame": told.first_frame, "latency_p50": told.latency_p50, "latency_p95": told.latency_p95, "jitter": told.jitter}
    return {f"{name}_ms": 1000.0 * value for name, value in seconds.items()} | {"deadline_misses": told.missed}


def plain_words(error: BaseException) -> str:
    """One sentence for the one on stage: whose fault, what to do."""
    kinds = [kind.__name__ for kind in type(error).__mro__]
    if "RankLost" in kinds:
        return "one of the engine's ranks was lost; all of them are started again"
    if "OutOfMemoryError" in kinds:
        return "the device's memory is full: choose a smaller width and height, fewer steps or a smaller frame_buffer"
    first_line = (str(error).strip().splitlines() or ["no message"])[0][:500]
    if isinstance(error, MISTAKES):
        return first_line
    return f"a fault of this program in the engine, {type(error).__name__}: {first_line}"
