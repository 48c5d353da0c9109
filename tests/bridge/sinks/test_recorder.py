"""Recordings: what a decoder sees in them, that they are whole or absent, and that bytes repeat."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from bridge.sinks.frame_writer import SinkError
from bridge.sinks.recorder import Recorder, best_encoder, letterbox
from bridge.sources.index_blocks import read_index
from engine.frames import Frame, PixelFormat, Pixels
from engine.images.pixel_formats import to_rgb, to_uyvy

Draw = Callable[..., list[Frame]]


def record(path: Path, frames: list[Frame], fps: Fraction | float = 25) -> None:
    recorder = Recorder(path, fps=fps, every_frame=True)
    recorder.start()
    for frame in frames:
        recorder.show(frame)
    recorder.stop()
    assert recorder.written == len(frames) and recorder.dropped == 0


def decode(path: Path) -> list[Pixels]:
    """By FFmpeg, told nothing but what the file says of its colours."""
    with av.open(str(path)) as container:
        return [
            frame.reformat(format="bgra", dst_color_range=2, src_color_range=1, interpolation=0x42002).to_ndarray()
            for frame in container.decode(video=0)
        ]


def as_uyvy(frame: Frame) -> Frame:
    # One thread: these pictures are small, and a team of threads waits for the encoder's.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rgb, _ = to_rgb(torch.from_numpy(frame.pixels)[None], PixelFormat.BGRX, torch.float32)
    torch.set_num_threads(threads)
    return Frame(to_uyvy(rgb)[0].numpy(), PixelFormat.UYVY, frame.captured_at, frame.index)


def decibels(a: Pixels, b: Pixels) -> float:
    return float(10 * np.log10(255**2 / np.square(a.astype(float) - b.astype(float)).mean()))


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("uyvy", [False, True])
def test_what_was_shown_is_in_the_clip(tmp_path: Path, draw: Draw, suffix: str, uyvy: bool) -> None:
    frames, path = draw(20, (320, 240)), tmp_path / f"clip{suffix}"
    record(path, [as_uyvy(frame) for frame in frames] if uyvy else frames)
    decoded = decode(path)
    assert [read_index(picture) for picture in decoded] == list(range(20))
    for picture, frame in zip(decoded, frames, strict=True):
        assert decibels(picture[..., :3], frame.pixels[..., :3]) > 33.0
        assert abs(float(picture[..., :3].mean()) - float(frame.pixels[..., :3].mean())) < 0.7
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_clip_says_what_it_is(tmp_path: Path, draw: Draw, suffix: str) -> None:
    record(tmp_path / f"a{suffix}", draw(30), Fraction(30000, 1001))
    with av.open(str(tmp_path / f"a{suffix}")) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.pix_fmt, context.width, context.height) == ("h264", "yuv420p", 192, 128)
        matrix = (context.colorspace, context.color_primaries, context.color_trc, context.color_range)
        assert tuple(int(value) for value in matrix) == (1, 1, 1, 1)
        assert stream.average_rate == pytest.approx(Fraction(30000, 1001), rel=1e-3)
        times = [frame.time for frame in container.decode(video=0)]
    # Matroska counts in whole milliseconds.
    assert times == pytest.approx([number * 1001 / 30000 for number in range(30)], abs=0.0011)


def test_even_colours_keep_their_hue(tmp_path: Path) -> None:
    """The matrix shows: with BT.601 in its place pure green would be 20 levels off."""
    for colour in ((0, 0, 255), (0, 255, 0), (255, 0, 0), (128, 128, 128), (255, 255, 255), (0, 0, 0)):
        pixels = np.full((64, 64, 4), (*colour, 255), np.uint8)
        record(tmp_path / "even.mp4", [Frame(pixels, PixelFormat.BGRX, 0.0, 0)] * 3)
        assert np.abs(decode(tmp_path / "even.mp4")[1][8:-8, 8:-8, :3].astype(int) - colour).max() <= 4


@pytest.mark.parametrize("size", [(193, 128), (192, 127), (67, 65)])
def test_an_odd_side_grows_by_one_and_nothing_is_lost(tmp_path: Path, draw: Draw, size: tuple[int, int]) -> None:
    frames = draw(5, size)
    record(tmp_path / "odd.mp4", frames)
    decoded = decode(tmp_path / "odd.mp4")
    assert decoded[0].shape == (size[1] + size[1] % 2, size[0] + size[0] % 2, 4)
    assert decibels(decoded[2][: size[1], : size[0], :3], frames[2].pixels[..., :3]) > 27.0
    # What was added repeats the last column or row: no dark line.
    picture = decoded[2].astype(int)
    assert np.abs(picture[:, -1] - picture[:, -2]).mean() < 6.0 and np.abs(picture[-1] - picture[-2]).mean() < 6.0


def test_another_size_is_fitted_into_the_first(tmp_path: Path, draw: Draw) -> None:
    first, wide = draw(3, (192, 192)), draw(3, (384, 192), first=3)
    tall = [as_uyvy(frame) for frame in draw(3, (96, 192), first=6)]
    record(tmp_path / "sizes.mp4", [*first, *wide, *tall])
    decoded = decode(tmp_path / "sizes.mp4")
    assert {picture.shape for picture in decoded} == {(192, 192, 4)}
    assert [read_index(picture) for picture in decoded[:3]] == [0, 1, 2]
    assert read_index(np.ascontiguousarray(decoded[4][48:144])) == 4
    assert decoded[4][:40, :, :3].max() < 24 and decoded[4][152:, :, :3].max() < 24
    assert read_index(np.ascontiguousarray(decoded[7][:, 48:144])) == 7
    assert decoded[7][:, :40, :3].max() < 24


def test_letterbox_touches_two_sides(draw: Draw) -> None:
    frame = draw(1, (128, 64))[0]
    boxed = letterbox(frame, 128, 128)
    assert np.array_equal(boxed[32:96], frame.pixels)
    assert not boxed[:32, :, :3].any() and not boxed[96:, :, :3].any() and np.all(boxed[..., 3] == 255)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_the_same_frames_give_the_same_bytes(tmp_path: Path, draw: Draw, suffix: str) -> None:
    """The memory the encoder is given differs from run to run: what it leaves unset must not show."""
    digests, random, frames = set(), np.random.default_rng(1), draw(30, (320, 240))
    for run in range(8):
        path = tmp_path / f"run{run}{suffix}"
        leftovers = [random.integers(0, 256, int(random.integers(1_000, 3_000_000)), dtype=np.uint8) for _ in range(8)]
        del leftovers
        record(path, frames)
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_nothing_bears_the_name_before_it_is_whole(tmp_path: Path, draw: Draw, poll) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "take.mp4"
    path.write_bytes(b"the take before")
    recorder = Recorder(path, fps=25)
    recorder.start()
    recorder.show(draw(1)[0])
    poll(lambda: recorder.written == 1)
    assert path.read_bytes() == b"the take before" and (tmp_path / "take.mp4.part").exists()
    recorder.stop()
    assert len(decode(path)) == 1 and not (tmp_path / "take.mp4.part").exists()


def test_a_crash_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    script = """
import os, sys, numpy as np
from bridge.sinks.recorder import Recorder
from engine.frames import Frame, PixelFormat
recorder = Recorder(sys.argv[1], fps=25, every_frame=True)
recorder.start()
for index in range(30):
    recorder.show(Frame(np.full((64, 64, 4), index, np.uint8), PixelFormat.BGRX, 0.0, index))
os._exit(9)
"""
    root = Path(__file__).resolve().parents[3]
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path / "crash.mp4")], cwd=root, timeout=60, check=False)
    assert ended.returncode == 9
    assert not (tmp_path / "crash.mp4").exists() and (tmp_path / "crash.mp4.part").exists()


def test_an_error_leaves_nothing_under_the_name(tmp_path: Path, draw: Draw) -> None:
    """The folder goes away while the recorder waits for its first frame."""
    folder = tmp_path / "gone"
    folder.mkdir()
    recorder = Recorder(folder / "a.mp4", fps=25, every_frame=True)
    recorder.start()
    folder.rmdir()
    with pytest.raises(SinkError, match="recording a.mp4 cannot be written"):
        for frame in draw(50):
            recorder.show(frame)
    with pytest.raises(SinkError):
        recorder.stop()
    assert list(tmp_path.iterdir()) == []


def test_a_picture_too_large_for_the_encoder_is_an_error_and_no_file(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "huge.mp4", fps=25)
    recorder.start()
    recorder.show(Frame(np.zeros((2, 40_000, 4), np.uint8), PixelFormat.BGRX, 0.0, 0))
    recorder.stop()
    assert recorder.state == "failed" and recorder.error
    assert list(tmp_path.iterdir()) == []


def test_without_frames_there_is_no_file(tmp_path: Path) -> None:
    record(tmp_path / "empty.mp4", [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "fps", "sentence"),
    [("a.avi", 25, "ends in none of"), ("no/where/a.mp4", 25, "there is no folder"), ("a.mp4", 0, "a rate lies above 0")],
)
def test_what_cannot_be_recorded_is_said_at_once(tmp_path: Path, name: str, fps: float, sentence: str) -> None:
    with pytest.raises(SinkError, match=sentence):
        Recorder(tmp_path / name, fps=fps)


def test_the_encoder_is_one_that_this_pyav_has() -> None:
    assert av.codec.Codec(best_encoder(), "w").is_encoder
