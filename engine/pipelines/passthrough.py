"""The stream that changes nothing: every frame out as it came. For tests of everything around it, and to check cabling."""

from __future__ import annotations

from engine.control.live_values import Snapshot
from engine.frames import Frame
from engine.settings import PASSTHROUGH


class Passthrough:
    """An engine.ports.Stream without a model; `size` is that of the last frame, (0, 0) before."""

    model = PASSTHROUGH
    device = "none"
    dtype = "uint8"
    runtime = "none"
    in_flight = 0
    arriving = False
    skipped = 0

    def __init__(self) -> None:
        self.size = (0, 0)

    def step(self, frame: Frame | None, values: Snapshot) -> list[Frame]:
        """The frame itself; nothing without one."""
        if frame is None:
            return []
        self.size = (frame.width, frame.height)
        return [frame]

    def arrived(self) -> list[Frame]:
        """Nothing is ever late."""
        return []

    def flush(self, values: Snapshot) -> list[Frame]:
        """Nothing is ever in flight."""
        return []

    def reset(self) -> None:
        """Nothing is remembered."""

    def problems(self) -> list[str]:
        """None."""
        return []

    def stage_ms(self) -> dict[str, float]:
        """No stages."""
        return {}
