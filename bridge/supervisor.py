"""The engine as processes, one after the other: started, fed, and started again when one dies or hangs.

The rings belong to the bridge: whatever happens to the engine, its last finished frame stays readable.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping
from typing import Any, cast

from bridge.engine_facts import BackOff, EngineFacts
from bridge.engine_life import EngineLife
from bridge.engine_rings import EngineRings
from bridge.value_feed import ValueFeed
from engine import segments
from engine.clock import MonotonicClock
from engine.control.live_values import LiveValues
from engine.frames import PixelFormat, Pixels
from engine.live_channel import Message
from engine.loop import ERROR_SECONDS
from engine.ports import Clock, Source
from engine.settings import Settings
from engine.worker import BUILD_STREAM

GPU_PATIENCE_SECONDS = 10.0
SLOW_PATIENCE_SECONDS = 180.0
"""Without a GPU one step may well take longer than 10 s, and so may the first one, or compiling anew for a new size."""


class EngineProcess:
    """One engine process at a time, all with the same settings and the live values as they are."""

    def __init__(
        self,
        settings: Settings,
        values: LiveValues,
        *,
        frame_bytes: int,
        clock: Clock | None = None,
        build: str = BUILD_STREAM,
        patience_seconds: float | None = None,
    ) -> None:
        """`frame_bytes`: the largest frame, in or out. `build`: where the stream comes from, as `module:function`.
        `patience_seconds`: silence of a running engine that counts as hanging; None chooses by device."""
        self._settings, self._values = settings, values
        self._clock: Clock = clock or MonotonicClock()
        self._build, self._patience_seconds = build, patience_seconds
        self._rings = EngineRings(frame_bytes)
        self._feed = ValueFeed(values)
        self._back_off = BackOff()
        self._knowing = threading.Lock()
        self._facts = EngineFacts()
        self._life: EngineLife | None = None
        self._skipped_before = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="engine watch", daemon=True)

    @property
    def finished(self) -> Source:
        """The finished frames. The pixels stay valid until the next one is handed out, with or without an engine."""
        return self._rings.finished

    @property
    def pid(self) -> int:
        """The engine process that runs now; 0 if none does."""
        life = self._life
        return life.pid if life is not None else 0

    def start(self) -> None:
        """Make the rings and start the engine, once. Raises segments.NoSharedMemory."""
        segments.remove_orphans()
        self._rings.open()
        self._feed.start()
        self._thread.start()

    def stop(self) -> None:
        """End the engine within some seconds and take the shared memory away."""
        self._stopping.set()
        if self._thread.ident is None:
            return
        self._thread.join(10.0)
        self._feed.stop()
        if self._facts.state != "failed":
            self._know(state="stopped", fps=0.0)
        self._rings.close()

    def put(self, format: PixelFormat, pixels: Pixels, captured_at: float, index: int) -> None:
        """Hand a frame to the engine: one copy, no waiting. Raises FrameTooLarge. Nothing happens before the start."""
        self._rings.put(format, pixels, captured_at, index)

    def facts(self) -> EngineFacts:
        """The engine as it is now."""
        into, out = self._rings.counts()
        with self._knowing:
            return dataclasses.replace(self._facts, frames_in=into.taken, dropped=into.dropped, frames_out=out.put)

    def _know(self, **news: Any) -> None:
        with self._knowing:
            self._facts = dataclasses.replace(self._facts, **news)
        self._values.report(self.facts().status_rows())

    def _watch(self) -> None:
        """Thread: one engine after the other, until the end or until starting again cannot help."""
        while not self._stopping.is_set():
            healthy_seconds, mistake = 0.0, False
            try:
                healthy_seconds, mistake = self._live()
            except (OSError, segments.NoSharedMemory) as error:
                self._know(error=f"the engine process could not be started: {error}")
            if mistake:
                self._know(state="failed", fps=0.0, stage_ms={})
                return
            if self._stopping.is_set():
                return
            self._know(state="restarting", fps=0.0, stage_ms={})
            if not self._stopping.wait(self._back_off.after(healthy_seconds)):
                self._know(restarts=self._facts.restarts + 1)

    def _live(self) -> tuple[float, bool]:
        """One engine from start to end: how many seconds it was healthy, and whether it ended by the user's mistake."""
        life = EngineLife(self._settings, self._rings.handles(), build=self._build, clock=self._clock)
        self._life, self._skipped_before = life, self._facts.skipped
        self._feed.serve(life.channel)
        try:
            life.attend(self._take, stop=self._stopping.is_set, patience=self._patience)
        finally:
            life.end(self._take)
            self._life = None
            self._feed.leave(life.channel)
        if not self._stopping.is_set() or life.mistake:
            self._know(error=life.last_words)
        return life.healthy_seconds, life.mistake

    def _patience(self) -> float:
        if self._patience_seconds is not None:
            return self._patience_seconds
        on_gpu = self._facts.device.startswith("cuda") and self._life is not None and self._life.proven
        slow = not on_gpu or self._settings.accelerate == "compile"
        return SLOW_PATIENCE_SECONDS if slow else GPU_PATIENCE_SECONDS

    def _take(self, message: Message) -> None:
        """One message of the engine; engine.worker says which there are."""
        news: dict[str, Any] = {}
        if "stream" in message:
            stream = cast("dict[str, Any]", message["stream"])
            news |= stream | {"size": tuple(stream["size"])}
        if "state" in message:
            news["state"] = message["state"]
        if "report" in message:
            report = cast("Mapping[str, Any]", message["report"])
            news |= {"state": report["state"], "fps": report["fps"], "stage_ms": report["stage_ms"]}
            news["punctuality"] = report.get("punctuality", {})
            news["skipped"] = self._skipped_before + report["skipped"]
            life = self._life
            if report["error"] or (life is not None and life.healthy_seconds >= ERROR_SECONDS):
                news["error"] = report["error"]
        if news:
            self._know(**news)
