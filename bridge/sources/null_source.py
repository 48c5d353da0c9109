"""The source that gives no frames: for text to image, and for trying what happens without input."""

from __future__ import annotations

from bridge.sources.own_thread import Put


class NullSource:
    """Never calls `put`."""

    def __init__(self, put: Put) -> None:
        del put
        self.state = "stopped"
        self.ended = False
        self.error = ""

    def start(self) -> None:
        """Nothing is started."""
        self.state = "no input"

    def stop(self) -> None:
        """Nothing is stopped."""
        self.state = "stopped"

    def describe(self) -> str:
        """One line."""
        return "no input"
