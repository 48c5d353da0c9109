"""What the bridge knows of its engine, and which status rows that fills. No processes, no frames."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.control.parameter import Value
from engine.gpu.heartbeat import LOST_EXIT


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineFacts:
    """The engine at one moment; counts are of the whole run, over all restarts.

    state: starting, loading, running, waiting, restarting, stopped, or failed (a mistake that starting again cannot
    mend). frames_in: frames the engine took. frames_out: frames it finished. dropped: input frames replaced by a newer
    one before it took them. skipped: not computed, as they resembled the last. error: in plain words, empty when all is
    well. runtime: what runs the networks, and in which precision. stage_ms: milliseconds of a recent step, by stage.
    fps: finished a second. punctuality: of a video stream, see engine.loop_report.Report; empty for others.
    """

    state: str = "starting"
    model: str = ""
    device: str = ""
    dtype: str = ""
    runtime: str = ""
    size: tuple[int, int] = (0, 0)
    frames_in: int = 0
    frames_out: int = 0
    dropped: int = 0
    skipped: int = 0
    restarts: int = 0
    error: str = ""
    stage_ms: Mapping[str, float] = field(default_factory=dict)
    fps: float = 0.0
    punctuality: Mapping[str, float] = field(default_factory=dict)

    def status_rows(self) -> dict[str, Value]:
        """The rows of the parameter table that the engine fills."""
        return {
            "state": self.state,
            "error": self.error,
            "model": self.model,
            "fps": self.fps,
            "dropped": self.dropped,
            "skipped": self.skipped,
            "engine_restarts": self.restarts,
            "first_frame_ms": self.punctuality.get("first_frame_ms", 0.0),
            "jitter_ms": self.punctuality.get("jitter_ms", 0.0),
            "deadline_misses": int(self.punctuality.get("deadline_misses", 0)),
        }


class BackOff:
    """How long to wait before the next start: doubling from start to start, from the beginning after a healthy life."""

    def __init__(self, *, first: float = 0.1, longest: float = 5.0, healthy: float = 30.0) -> None:
        self._first, self._longest, self._healthy = first, longest, healthy
        self._next = first

    def after(self, healthy_seconds: float) -> float:
        """Seconds to wait after a life of which `healthy_seconds` were good."""
        if healthy_seconds >= self._healthy:
            self._next = self._first
        delay, self._next = self._next, min(2 * self._next, self._longest)
        return delay


def death_in_words(exitcode: int | None) -> str:
    """Why an engine process that said nothing is gone."""
    if exitcode == LOST_EXIT:
        return "one of the engine's ranks was lost; all of them are started again"
    if exitcode is None or exitcode >= 0:
        return f"the engine process ended unexpectedly with exit status {exitcode}; it is started again"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    hint = ", perhaps as the machine ran out of memory" if name == "SIGKILL" else ""
    return f"the engine process was killed ({name}{hint}); it is started again"
