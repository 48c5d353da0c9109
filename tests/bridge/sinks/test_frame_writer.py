"""The queue before a slow file: drops live, waits when every frame counts, and ends in both."""

import threading
from collections.abc import Callable

import numpy as np
import pytest

from bridge.sinks.frame_writer import QUEUE_FRAMES, FrameWriter, SinkError
from engine.frames import Frame, PixelFormat

Draw = Callable[..., list[Frame]]


class GatedFile:
    """Writes only while the gate is open; may fail at a given frame."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.written: list[tuple[int, int]] = []
        self.ending = ""
        self._fail_at = fail_at

    def write(self, frame: Frame, tick: int) -> None:
        self.entered.set()
        assert self.gate.wait(30)
        if len(self.written) == self._fail_at:
            raise OSError("no space left on the disk")
        self.written.append((int(frame.pixels[0, 0, 0]), tick))

    def finish(self) -> None:
        self.ending += "finished"

    def abandon(self) -> None:
        self.ending += "abandoned"


def numbered(number: int) -> Frame:
    pixels = np.full((2, 2, 4), number, np.uint8)
    return Frame(pixels=pixels, format=PixelFormat.BGRX, captured_at=float(number), index=number)


def test_live_drops_what_finds_no_room_and_keeps_its_place() -> None:
    file = GatedFile()
    writer = FrameWriter(file, name="gated")
    writer.start()
    writer.show(numbered(0))
    assert file.entered.wait(20)
    for number in range(1, QUEUE_FRAMES + 6):
        writer.show(numbered(number))
    assert writer.dropped == 5 and writer.state == "writing"
    file.gate.set()
    writer.stop()
    assert file.written == [(number, number) for number in range(QUEUE_FRAMES + 1)]
    assert (file.ending, writer.state, writer.written) == ("finished", "stopped", QUEUE_FRAMES + 1)


def test_after_a_drop_later_frames_keep_their_tick(poll) -> None:  # type: ignore[no-untyped-def]
    file = GatedFile()
    writer = FrameWriter(file, name="gated")
    writer.start()
    writer.show(numbered(0))
    assert file.entered.wait(20)
    for number in range(1, QUEUE_FRAMES + 3):
        writer.show(numbered(number))
    file.gate.set()
    poll(lambda: writer.written == QUEUE_FRAMES + 1)
    writer.show(numbered(99))
    writer.stop()
    assert file.written[-1] == (99, QUEUE_FRAMES + 3)


def test_every_frame_waits_for_room() -> None:
    file = GatedFile()
    writer = FrameWriter(file, name="gated", every_frame=True)
    writer.start()
    shower = threading.Thread(target=lambda: [writer.show(numbered(number)) for number in range(40)])
    shower.start()
    assert file.entered.wait(20)
    assert shower.is_alive()
    file.gate.set()
    shower.join(20)
    writer.stop()
    assert file.written == [(number, number) for number in range(40)] and writer.dropped == 0


def test_the_pixels_are_copied() -> None:
    file = GatedFile()
    writer = FrameWriter(file, name="gated")
    writer.start()
    frame = numbered(5)
    writer.show(frame)
    frame.pixels[...] = 77
    file.gate.set()
    writer.stop()
    assert file.written == [(5, 0)]


def test_a_failure_live_is_told_and_the_show_goes_on(poll) -> None:  # type: ignore[no-untyped-def]
    file = GatedFile(fail_at=1)
    file.gate.set()
    writer = FrameWriter(file, name="gated")
    writer.start()
    writer.show(numbered(0))
    writer.show(numbered(1))
    poll(lambda: writer.state == "failed")
    writer.show(numbered(2))
    writer.stop()
    assert writer.error == "gated cannot be written: no space left on the disk"
    assert (file.ending, file.written, writer.dropped) == ("abandoned", [(0, 0)], 1)


def test_a_failure_with_every_frame_is_raised() -> None:
    file = GatedFile(fail_at=0)
    file.gate.set()
    writer = FrameWriter(file, name="gated", every_frame=True)
    writer.start()
    with pytest.raises(SinkError, match="no space left"):
        for number in range(100):
            writer.show(numbered(number))
    with pytest.raises(SinkError, match="no space left"):
        writer.stop()


def test_a_file_that_hangs_does_not_hold_the_stop() -> None:
    file = GatedFile()
    writer = FrameWriter(file, name="gated")
    writer.start()
    writer.show(numbered(0))
    assert file.entered.wait(20)
    writer.stop(timeout_seconds=0.05)
    assert "did not finish" in writer.error
    file.gate.set()


def test_outside_of_start_and_stop() -> None:
    file = GatedFile()
    writer = FrameWriter(file, name="gated")
    writer.show(numbered(0))
    assert writer.dropped == 1
    writer.start()
    writer.stop()
    writer.stop()
    writer.show(numbered(1))
    assert writer.dropped == 2 and file.written == []
    with pytest.raises(SinkError, match="has not been started"):
        FrameWriter(GatedFile(), name="gated", every_frame=True).show(numbered(0))
