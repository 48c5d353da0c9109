"""The camera source, with OpenCV's own capture reading a clip in the camera's place: its end is a pulled plug."""

from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from bridge.sources.camera import CameraSource
from bridge.sources.index_blocks import read_index
from bridge.sources.own_thread import SourceError
from engine.frames import PixelFormat

DrawClip = Callable[..., Path]


def test_it_reads_and_comes_back_after_the_plug_was_pulled(taken, draw_clip: DrawClip) -> None:  # type: ignore[no-untyped-def]
    path, opened, captures = draw_clip(count=6), [], []

    def open_capture(index: int) -> cv2.VideoCapture:
        # A device that is still held cannot be opened again.
        assert not any(capture.isOpened() for capture in captures)
        opened.append(index)
        # The second time the plug is still out.
        captures.append(cv2.VideoCapture("nowhere.mp4" if len(opened) == 2 else str(path)))
        return captures[-1]

    source = CameraSource(taken.put, 3, open_capture=open_capture, first_wait_seconds=0.01)
    source.start()
    taken.wait_for(15)
    source.stop()
    assert source.state == "stopped" and not source.ended
    assert not any(capture.isOpened() for capture in captures)
    assert set(opened) == {3} and len(opened) >= 4
    formats, pixels, times, indices = zip(*taken.frames[:15], strict=True)
    assert set(formats) == {PixelFormat.BGRX}
    assert [read_index(picture) for picture in pixels] == [index % 6 for index in range(15)]
    assert list(indices) == list(range(15)) and list(times) == sorted(times)
    assert all(picture[..., 3].min() == 255 for picture in pixels)
    assert source.describe() == "camera 3 192x128"


def test_a_camera_that_stays_away_is_waited_for(taken, poll, draw_clip: DrawClip) -> None:  # type: ignore[no-untyped-def]
    path, opened = draw_clip(count=2), []

    def open_capture(index: int) -> cv2.VideoCapture:
        opened.append(index)
        return cv2.VideoCapture(str(path) if len(opened) == 1 else "nowhere.mp4")

    source = CameraSource(taken.put, 0, open_capture=open_capture, first_wait_seconds=0.01)
    source.start()
    poll(lambda: source.state == "waiting" and len(opened) > 2)
    source.stop()
    assert len(taken.frames) == 2 and source.error == ""


def test_a_missing_camera_names_those_that_open(draw_clip: DrawClip) -> None:
    path = draw_clip(count=1)

    def open_capture(index: int) -> cv2.VideoCapture:
        return cv2.VideoCapture(str(path) if index in (1, 4) else "nowhere.mp4")

    source = CameraSource(lambda *_: None, 0, open_capture=open_capture)
    with pytest.raises(SourceError, match="camera 0 cannot be opened; these can: camera:1, camera:4"):
        source.start()
    assert source.state == "stopped"
    source.stop()


def test_without_any_camera_the_error_asks_for_one() -> None:
    source = CameraSource(lambda *_: None, 0, open_capture=lambda _: cv2.VideoCapture("nowhere.mp4"))
    with pytest.raises(SourceError, match="is one plugged in"):
        source.start()


def test_this_machine_has_no_camera_ninety_nine() -> None:
    with pytest.raises(SourceError, match="camera 99 cannot be opened"):
        CameraSource(lambda *_: None, 99).start()
