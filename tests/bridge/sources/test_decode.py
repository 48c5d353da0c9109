"""Decoding clips, pictures and folders: real files, encoded by others' encoders, broken on purpose."""

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from bridge.sources.decode import facts_of, frames_of, pictures_in, pictures_of
from bridge.sources.index_blocks import read_index
from bridge.sources.own_thread import SourceError
from bridge.sources.test_pattern import Pattern
from engine.frames import PixelFormat, Pixels

DrawClip = Callable[..., Path]


def decibels(a: Pixels, b: Pixels) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.square(a.astype(float) - b.astype(float)).mean())))


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001), Fraction(60)])
def test_facts_and_every_frame_in_order(draw_clip: DrawClip, fps: Fraction) -> None:
    path = draw_clip(count=20, fps=fps)
    facts = facts_of(path)
    assert (facts.fps, facts.frame_count, facts.size) == (fps, 20, (192, 128))
    assert facts.duration_seconds == pytest.approx(20 / float(fps), abs=0.01)
    assert facts.format is PixelFormat.BGRX and not facts.still
    pictures = list(pictures_of(path))
    assert [read_index(picture.pixels) for picture in pictures] == list(range(20))
    assert [picture.at_seconds for picture in pictures] == pytest.approx([n / float(fps) for n in range(20)], abs=1e-4)
    assert all(picture.pixels.flags.c_contiguous for picture in pictures)
    assert len(list(frames_of(path))) == 20


def test_uneven_time_stamps_are_kept(tmp_path: Path) -> None:
    """A screen recording: frames only where something changed, the first not at zero."""
    stamps, path = (1000, 1040, 1900, 1910, 3000), tmp_path / "uneven.mkv"
    pattern = Pattern(128, 128, 30)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 128, 128, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for index, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(pattern.picture(index), format="bgra")
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    pictures = list(pictures_of(path))
    assert [read_index(picture.pixels) for picture in pictures] == [0, 1, 2, 3, 4]
    assert [picture.at_seconds for picture in pictures] == pytest.approx([0.0, 0.04, 0.9, 0.91, 2.0], abs=0.002)


def test_frames_own_their_memory(draw_clip: DrawClip) -> None:
    frames = list(frames_of(draw_clip(count=8)))
    assert [read_index(frame) for frame in frames] == list(range(8))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 5])
@pytest.mark.parametrize("codec", ["libx264", "ffv1"])
def test_colours_follow_matrix_and_range_of_the_file(tmp_path: Path, codec: str, full: bool, matrix: int) -> None:
    """Four even colours through a clip that says its matrix and range come back as they were."""
    colours = np.array([[0, 0, 255], [0, 200, 0], [255, 128, 0], [255, 255, 255]], np.uint8)
    picture = np.repeat(np.repeat(colours[None], 64, axis=0), 32, axis=1)
    picture = np.ascontiguousarray(np.dstack((picture, np.full(picture.shape[:2], 255, np.uint8))))
    path = tmp_path / "colours.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"crf": "1"} if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 2 if full else 1
        frame = av.VideoFrame.from_ndarray(picture, format="bgra").reformat(
            format="yuv420p", dst_colorspace=matrix, src_color_range=2, dst_color_range=2 if full else 1
        )
        frame.colorspace, frame.color_range = matrix, 2 if full else 1
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    back = next(frames_of(path))
    for place, colour in zip((16, 48, 80, 112), colours, strict=True):
        assert np.abs(back[32, place, :3].astype(int) - colour).max() <= 5


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_a_clip_is_turned_the_way_it_says(draw_clip: DrawClip, rotation: int) -> None:
    plain = next(frames_of(draw_clip("plain.mp4")))
    path = draw_clip("turned.mp4", rotation=rotation)
    with av.open(str(path)) as container:
        says = next(container.decode(video=0)).rotation
    assert (says - rotation) % 360 == 0
    turned = next(frames_of(path))
    # FFmpeg counts the display rotation against the clock, as numpy does.
    assert np.array_equal(turned, np.rot90(plain, rotation // 90))
    assert facts_of(path).size == ((192, 128) if rotation == 180 else (128, 192))


@pytest.mark.parametrize(
    ("name", "size", "fps", "count"),
    [
        ("animation_1280x720.mp4", (1280, 720), 25, 132),
        ("webcam_person_640x480.mp4", (640, 480), None, None),
        ("yoga_360x360.mp4", (360, 360), None, None),
    ],
)
def test_real_clips_agree_with_opencv(shared_clips: Path, name: str, size: tuple[int, int], fps: int | None, count: int | None) -> None:
    facts = facts_of(shared_clips / name)
    theirs = cv2.VideoCapture(str(shared_clips / name))
    assert facts.size == size == (theirs.get(cv2.CAP_PROP_FRAME_WIDTH), theirs.get(cv2.CAP_PROP_FRAME_HEIGHT))
    assert float(facts.fps) == pytest.approx(fps or theirs.get(cv2.CAP_PROP_FPS), rel=0.01)
    assert abs(facts.frame_count - (count or theirs.get(cv2.CAP_PROP_FRAME_COUNT))) <= 1
    for _, ours in zip(range(5), frames_of(shared_clips / name), strict=False):
        good, picture = theirs.read()
        assert good
        # OpenCV takes every clip for BT.601: compare brightness, not hue.
        assert abs(float(ours[..., :3].mean()) - float(picture.mean())) < 4.0
    theirs.release()


def test_png_keeps_alpha_bit_for_bit(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (33, 47, 4), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    facts = facts_of(tmp_path / "a.png")
    assert facts.still and facts.frame_count == 1 and facts.format is PixelFormat.BGRA and facts.size == (47, 33)
    assert np.array_equal(next(frames_of(tmp_path / "a.png")), picture)


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".tif", ".webp"])
def test_other_pictures(tmp_path: Path, suffix: str) -> None:
    picture = np.ascontiguousarray(Pattern(160, 120, 30).picture(9)[..., :3])
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), picture)
    (back,) = frames_of(path)
    assert facts_of(path).still
    assert decibels(back[..., :3], picture) > 28.0
    assert abs(float(back[..., :3].mean()) - float(picture.mean())) < 1.0


def test_a_grey_picture_is_grey(tmp_path: Path) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    back = next(frames_of(tmp_path / "grey.png"))
    assert np.array_equal(back[..., 0], grey) and np.array_equal(back[..., 2], grey)


def test_a_folder_is_played_in_name_order(tmp_path: Path) -> None:
    for number in (10, 9, 2, 1):
        cv2.imwrite(str(tmp_path / f"shot_{number}.png"), np.full((20, 30, 3), number, np.uint8))
    (tmp_path / "notes.txt").write_text("not a picture")
    assert [path.stem for path in pictures_in(tmp_path)] == ["shot_1", "shot_2", "shot_9", "shot_10"]
    pictures = list(pictures_of(tmp_path, fps=Fraction(10)))
    assert [int(picture.pixels[0, 0, 0]) for picture in pictures] == [1, 2, 9, 10]
    assert [picture.at_seconds for picture in pictures] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    facts = facts_of(tmp_path, fps=Fraction(10))
    assert (facts.frame_count, facts.size, facts.duration_seconds) == (4, (30, 20), pytest.approx(0.4))


def test_an_empty_folder_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no pictures"):
        facts_of(tmp_path)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no file or folder"):
        facts_of(tmp_path / "nothing.mp4")


@pytest.mark.parametrize("content", [b"", b"hello, this is no video at all" * 100, bytes(5000)])
@pytest.mark.parametrize("name", ["a.mp4", "a.png", "a.jpg", "a.mkv"])
def test_garbage_is_one_plain_error(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError) as caught:
        facts_of(tmp_path / name)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    with pytest.raises(SourceError, match="has no video in it"):
        facts_of(path)


def test_a_clip_cut_off_gives_what_is_there(tmp_path: Path) -> None:
    pattern, memory = Pattern(128, 128, 30), io.BytesIO()
    with av.open(memory, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=30, options={"bf": "0", "g": "10"})
        stream.width, stream.height, stream.pix_fmt = 128, 128, "yuv420p"
        for index in range(40):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pattern.picture(index), format="bgra")))
        container.mux(stream.encode(None))
    whole = memory.getvalue()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    indices = [read_index(frame) for frame in frames_of(tmp_path / "cut.mkv")]
    assert 5 < len(indices) < 40
    assert indices[:5] == [0, 1, 2, 3, 4]


def test_broken_bytes_within_a_clip_do_not_end_it(tmp_path: Path, draw_clip: DrawClip) -> None:
    path = draw_clip(count=60)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    data[start + 2000 : start + 2600] = bytes(600)
    (tmp_path / "broken.mp4").write_bytes(data)
    assert len(list(frames_of(tmp_path / "broken.mp4"))) > 20
