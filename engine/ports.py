"""What the run loop asks of the world: source, sink, stream, clock. Contracts only."""

from __future__ import annotations

from typing import Protocol

from engine.control.live_values import Snapshot
from engine.frames import Frame


class Source(Protocol):
    """Where frames come from."""

    def newest(self) -> Frame | None:
        """The newest frame not handed out before, or None. Never blocks.

        The pixels stay valid until the next call: who needs them longer copies them.
        """
        ...

    def wait(self, timeout_seconds: float) -> bool:
        """Wait until `newest` would give a frame; False if none came in time."""
        ...


class Sink(Protocol):
    """Where frames go."""

    def show(self, frame: Frame) -> None:
        """Take a frame. Never blocks; the pixels belong to the caller again when this returns."""
        ...


class Stream(Protocol):
    """One live generative stream, image or video: the loop does not care which."""

    def step(self, frame: Frame | None, values: Snapshot) -> list[Frame]:
        """Advance by one frame, or without input if it is None; 0..n finished frames, oldest first.

        Each finished frame carries the captured_at and index of the frame it was made from.
        """
        ...

    @property
    def arriving(self) -> bool:
        """Whether finished pictures are on their way from the device, so that `arrived` is worth asking soon."""
        ...

    def arrived(self) -> list[Frame]:
        """Frames finished by earlier steps that could not be handed out yet and now can, oldest first. Never waits."""
        ...

    def flush(self, values: Snapshot) -> list[Frame]:
        """Finish the frames in flight, oldest first."""
        ...

    def reset(self) -> None:
        """Forget all frames in flight and every state that depends on earlier frames."""
        ...

    @property
    def in_flight(self) -> int:
        """Frames taken in and not yet finished."""
        ...

    @property
    def skipped(self) -> int:
        """Frames that were not computed because they resembled the one before."""
        ...

    def problems(self) -> list[str]:
        """What went wrong since the last call and did not stop the picture, in plain sentences."""
        ...

    def stage_ms(self) -> dict[str, float]:
        """Milliseconds of the stages of a recent step (a smoothed mean), by stage name."""
        ...


class Clock(Protocol):
    """Monotonic time, injected so that tests hold it in their hands."""

    def now(self) -> float:
        """Monotonic seconds."""
        ...

    def sleep_until(self, moment: float) -> None:
        """Return at `moment` (monotonic seconds), at once if it has passed."""
        ...
