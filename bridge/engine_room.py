"""Makes the engine a run wants, in a process of its own or in this one, and says how large its frames may be."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Protocol

from bridge.engine_facts import EngineFacts
from engine.control.live_values import LiveValues
from engine.frames import PixelFormat, Pixels
from engine.ports import Clock, Source
from engine.settings import Settings

SLOTS = 8
"""Frames that lie in shared memory: four a ring, a ring each way."""

LARGEST_GENERATED = (2048, 2048)
"""What width and height may be turned up to while running."""

LARGEST_RECEIVED = (3840, 2160)
"""What may arrive over NDI or from a camera."""

_MEMORY = Path("/dev/shm")


class Engine(Protocol):
    """The engine as the bridge sees it."""

    @property
    def finished(self) -> Source:
        """Finished frames."""
        ...

    def start(self) -> None:
        """Begin to load and run."""
        ...

    def stop(self) -> None:
        """End, bounded."""
        ...

    def put(self, format: PixelFormat, pixels: Pixels, captured_at: float, index: int) -> None:
        """Offer a source frame; copies, never blocks."""
        ...

    def facts(self) -> EngineFacts:
        """How it stands."""
        ...


def frame_bytes(*, source: tuple[int, int] | None, size: tuple[int, int], free: int | None) -> int:
    """Bytes of the largest frame to make room for.

    source: (width, height) of what comes in, None if it cannot be known. size: of what goes out at first. free: bytes of
    shared memory there are, None if there is no limit. Sizes that are certain are always held; of what is free, no more
    than half is taken for sizes that are merely possible.
    """
    certain = max(_bytes(size), _bytes(source) if source else 0)
    possible = max(certain, _bytes(LARGEST_GENERATED), 0 if source else _bytes(LARGEST_RECEIVED))
    if free is None:
        return possible
    return max(certain, min(possible, free // 2 // SLOTS))


def free_shared_memory() -> int | None:
    """Bytes free where Linux keeps shared memory; None elsewhere, where it has no limit of its own."""
    return shutil.disk_usage(_MEMORY).free if _MEMORY.is_dir() else None


def make_engine(
    settings: Settings,
    values: LiveValues,
    *,
    source: tuple[int, int] | None,
    in_process: bool,
    clock: Clock,
) -> Engine:
    """The engine, not started. source: (width, height) of its input if known."""
    targets = values.targets()
    size = settings.output_size or (int(str(targets["width"])), int(str(targets["height"])))
    room = frame_bytes(source=source, size=size, free=free_shared_memory())
    if in_process:
        from bridge.in_process import InProcessEngine

        return InProcessEngine(settings, values, frame_bytes=room, clock=clock)
    from bridge.supervisor import EngineProcess

    return EngineProcess(settings, values, frame_bytes=room, clock=clock)


def _bytes(size: tuple[int, int]) -> int:
    return size[0] * size[1] * 4
