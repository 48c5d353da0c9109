"""What the sink tests share: frames of the test pattern, each marked with its index."""

import threading
from collections.abc import Callable

import pytest

from bridge.sources.test_pattern import Pattern
from engine.frames import Frame, PixelFormat


@pytest.fixture
def draw() -> Callable[..., list[Frame]]:
    """Frames of the test pattern: count, size, format, the first index."""

    def frames(count: int, size: tuple[int, int] = (192, 128), format: PixelFormat = PixelFormat.BGRX, first: int = 0) -> list[Frame]:
        pattern = Pattern(*size, 25)
        return [
            Frame(pixels=pattern.picture(index).copy(), format=format, captured_at=index / 25, index=index)
            for index in range(first, first + count)
        ]

    return frames


@pytest.fixture
def poll() -> Callable[[Callable[[], bool]], None]:
    """Wait until a condition holds, 20 seconds at most."""

    def until(condition: Callable[[], bool]) -> None:
        for _ in range(4000):
            if condition():
                return
            threading.Event().wait(0.005)
        raise AssertionError("it never happened")

    return until
