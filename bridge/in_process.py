"""The engine in the bridge's own process, on one thread: for debugging and tests. A crash here takes everything with it."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from bridge.engine_facts import BackOff, EngineFacts
from engine.clock import MonotonicClock
from engine.control.live_values import LiveValues
from engine.frames import Frame, PixelFormat, Pixels
from engine.latest import Latest
from engine.loop import run
from engine.loop_report import Report, plain_words
from engine.pipelines.build import BuiltStream
from engine.ports import Clock, Source
from engine.settings import Settings
from engine.shared_frames import FrameTooLarge
from engine.worker import BUILD_STREAM, describe, find_build, is_users_mistake


class InProcessEngine:
    """As bridge.supervisor.EngineProcess, without a process; what fails is built again on the same thread."""

    def __init__(
        self,
        settings: Settings,
        values: LiveValues,
        *,
        frame_bytes: int,
        clock: Clock | None = None,
        build: str = BUILD_STREAM,
    ) -> None:
        """`frame_bytes`: the largest frame. `build`: where the stream comes from, as `module:function`."""
        self._settings, self._values, self._frame_bytes = settings, values, frame_bytes
        self._clock: Clock = clock or MonotonicClock()
        self._build = build
        self._in, self._out = _HandOver(), _HandOver()
        self._knowing = threading.Lock()
        self._facts = EngineFacts()
        self._skipped_before = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="engine", daemon=True)

    @property
    def finished(self) -> Source:
        """The finished frames, each a copy of its own."""
        return self._out

    def start(self) -> None:
        """Start the engine's thread, once."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; a step that is being computed is waited for up to 10 s."""
        self._stopping.set()
        if self._thread.ident is None:
            return
        self._thread.join(10.0)
        if self._facts.state != "failed":
            self._know(state="stopped", fps=0.0)

    def put(self, format: PixelFormat, pixels: Pixels, captured_at: float, index: int) -> None:
        """Hand a copy of a frame to the engine. Raises FrameTooLarge."""
        if pixels.nbytes > self._frame_bytes:
            raise FrameTooLarge(
                f"a frame of {pixels.nbytes} bytes came, but the run was started for {self._frame_bytes} at most; "
                "start it for larger frames"
            )
        self._in.show(Frame(pixels=pixels, format=format, captured_at=captured_at, index=index))

    def facts(self) -> EngineFacts:
        """The engine as it is now."""
        with self._knowing:
            return dataclasses.replace(self._facts, frames_in=self._in.taken, dropped=self._in.dropped, frames_out=self._out.shown)

    def _know(self, **news: Any) -> None:
        with self._knowing:
            self._facts = dataclasses.replace(self._facts, **news)
        self._values.report(self.facts().status_rows())

    def _watch(self) -> None:
        back_off = BackOff()
        while not self._stopping.is_set():
            began = self._clock.now()
            self._skipped_before = self._facts.skipped
            try:
                self._live()
                return
            except Exception as error:
                self._know(error=plain_words(error), fps=0.0, stage_ms={})
                if is_users_mistake(error):
                    self._know(state="failed")
                    return
            self._know(state="restarting")
            if not self._stopping.wait(back_off.after(self._clock.now() - began)):
                self._know(restarts=self._facts.restarts + 1)

    def _live(self) -> None:
        self._know(state="loading")
        self._values.jump()
        stream = find_build(self._build)(self._settings, self._values.snapshot(0.0), live=True)
        self._describe(stream)
        run(
            stream,
            self._in,
            self._out,
            self._values,
            clock=self._clock,
            stop=self._stopping.is_set,
            report=self._reporter(stream),
        )

    def _describe(self, stream: BuiltStream) -> None:
        self._know(**(describe(stream) | {"size": tuple(stream.size)}))

    def _reporter(self, stream: BuiltStream) -> Callable[[Report], None]:
        def report(news: Report) -> None:
            self._describe(stream)
            self._know(
                state=news.state,
                fps=news.fps,
                stage_ms=news.stage_ms,
                punctuality=news.punctuality,
                error=news.error,
                skipped=self._skipped_before + news.skipped,
            )

        return report


class _HandOver:
    """Sink on one side and Source on the other: one copy, the newest wins."""

    def __init__(self) -> None:
        self._latest: Latest[Frame] = Latest()
        self.taken = 0

    @property
    def shown(self) -> int:
        return self._latest.put_count

    @property
    def dropped(self) -> int:
        return self._latest.dropped

    def show(self, frame: Frame) -> None:
        self._latest.put(dataclasses.replace(frame, pixels=np.array(frame.pixels, order="C")))

    def newest(self) -> Frame | None:
        frame = self._latest.take()
        self.taken += frame is not None
        return frame

    def wait(self, timeout_seconds: float) -> bool:
        return self._latest.wait(timeout_seconds)
