"""What the source tests share: a put that remembers, clips drawn and encoded here, and the shared real clips."""

import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from bridge.sources.test_pattern import Pattern
from engine.frames import PixelFormat, Pixels


class Taken:
    """Remembers every frame it is given and lets a test wait for a number of them, up to a deadline."""

    def __init__(self) -> None:
        self.frames: list[tuple[PixelFormat, Pixels, float, int]] = []
        self._arrived = threading.Condition()

    def put(self, format: PixelFormat, pixels: Pixels, captured_at: float, index: int) -> None:
        with self._arrived:
            self.frames.append((format, pixels.copy(), captured_at, index))
            self._arrived.notify_all()

    def wait_for(self, count: int, timeout_seconds: float = 20.0) -> None:
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.frames) >= count, timeout_seconds), (
                f"{len(self.frames)} frames came, not {count}"
            )


@pytest.fixture
def taken() -> Taken:
    return Taken()


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


@pytest.fixture
def draw_clip(tmp_path: Path) -> Callable[..., Path]:
    """Encodes the test pattern, by PyAV alone: name, frame count, size, rate, rotation in degrees."""

    def draw(
        name: str = "clip.mp4",
        count: int = 12,
        size: tuple[int, int] = (192, 128),
        fps: Fraction = Fraction(25),
        rotation: int = 0,
    ) -> Path:
        path = tmp_path / name
        pattern = Pattern(*size, float(fps))
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=fps, options={"crf": "16", "preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            if rotation:
                stream.set_display_rotation(rotation)
            for index in range(count):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pattern.picture(index)), format="bgra")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return draw


@pytest.fixture
def shared_clips() -> Iterator[Path]:
    folder = Path(__file__).resolve().parents[3].parent / "shared" / "clips"
    if not folder.is_dir():
        pytest.skip("the folder ../shared/clips with real clips is absent")
    yield folder
