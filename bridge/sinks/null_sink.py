"""The sink that takes every frame and shows none: for measuring, and for runs without an audience."""

from __future__ import annotations

from engine.frames import Frame


class NullSink:
    """Counts what it is shown."""

    def __init__(self) -> None:
        self.shown = 0
        self.dropped = 0
        self.error = ""
        self.state = "stopped"

    def start(self) -> None:
        """Nothing is started."""
        self.state = "running"

    def stop(self) -> None:
        """Nothing is stopped."""
        self.state = "stopped"

    def show(self, frame: Frame) -> None:
        """Count the frame."""
        del frame
        self.shown += 1

    def describe(self) -> str:
        """One line."""
        return "no output"
