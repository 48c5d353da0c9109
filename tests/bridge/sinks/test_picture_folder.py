"""Numbered PNGs, read back by OpenCV."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from bridge.sinks.frame_writer import SinkError
from bridge.sinks.picture_folder import PictureFolder
from bridge.sources.decode import frames_of
from engine.frames import Frame, PixelFormat

Draw = Callable[..., list[Frame]]


def save(folder: Path, frames: list[Frame]) -> None:
    sink = PictureFolder(folder, every_frame=True)
    sink.start()
    for frame in frames:
        sink.show(frame)
    sink.stop()


def test_pictures_are_numbered_and_bit_exact(tmp_path: Path, draw: Draw) -> None:
    folder, frames = tmp_path / "new" / "shots", draw(5)
    save(folder, frames)
    assert sorted(path.name for path in folder.iterdir()) == [f"{number:06d}.png" for number in range(5)]
    for number, frame in enumerate(frames):
        picture = cv2.imread(str(folder / f"{number:06d}.png"), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(picture, frame.pixels[..., :3])
    assert [pixels.shape for pixels in frames_of(folder)] == [(128, 192, 4)] * 5


def test_alpha_is_kept(tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    save(tmp_path, [Frame(pixels, PixelFormat.BGRA, 0.0, 0)])
    assert np.array_equal(cv2.imread(str(tmp_path / "000000.png"), cv2.IMREAD_UNCHANGED), pixels)


def test_uyvy_becomes_rgb(tmp_path: Path) -> None:
    green = np.tile(np.array([[42, 173], [26, 173]], np.uint8), (8, 8, 1))
    save(tmp_path, [Frame(green, PixelFormat.UYVY, 0.0, 0)])
    picture = cv2.imread(str(tmp_path / "000000.png"), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (8, 16, 3) and np.abs(picture.astype(int) - (0, 255, 0)).max() <= 2


def test_old_pictures_are_not_mixed_with_new_ones(tmp_path: Path, draw: Draw) -> None:
    save(tmp_path, draw(1))
    with pytest.raises(SinkError, match="holds numbered pictures already"):
        PictureFolder(tmp_path)


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(SinkError, match="cannot be made"):
        PictureFolder(tmp_path / "file")


def test_a_folder_that_goes_away_fails_in_a_sentence(tmp_path: Path, draw: Draw, poll) -> None:  # type: ignore[no-untyped-def]
    sink = PictureFolder(tmp_path / "gone")
    sink.start()
    (tmp_path / "gone").rmdir()
    sink.show(draw(1)[0])
    poll(lambda: sink.state == "failed")
    sink.stop()
    assert "pictures in gone cannot be written" in sink.error
