"""Records frames to an H.264 clip through PyAV. What is being written ends in .part until it is whole."""

from __future__ import annotations

import contextlib
import os
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from bridge.ffmpeg_colour import BT709, EXACT, FULL, LIMITED
from bridge.sinks.colour import as_video_frame, to_bgra
from bridge.sinks.frame_writer import FrameWriter, SinkError
from engine.frames import Frame, PixelFormat, Pixels

CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
ENCODERS = ("libx264", "h264_videotoolbox", "h264_mf", "libopenh264", "mpeg4")
"""Best first. The PyAV wheels carry the first one."""
X264_OPTIONS = {"preset": "veryfast", "crf": "18", "x264-params": "mbtree=0"}
"""Without macroblock tree: together with B-frames, its assembler gives other bytes from run to run."""
X264_THREADS = 4
"""Fixed: with a number chosen by the machine the bytes would differ from machine to machine."""


class Recorder(FrameWriter):
    """A sink that records to `path`, one frame each 1/fps seconds in the order they are shown.

    The size is that of the first frame (an odd side grows by one); later frames of another size are fitted in with
    black bars. Alpha is not recorded. A frame that was dropped leaves a gap in which the one before stands, so the
    clip keeps its length. The same frames give the same bytes.
    """

    def __init__(self, path: Path | str, *, fps: Fraction | float, every_frame: bool = False) -> None:
        """Raises SinkError for a name that is none of .mp4, .mov, .mkv or a folder that is not there."""
        path = Path(path)
        if path.suffix.lower() not in CONTAINERS:
            raise SinkError(f"{path.name} ends in none of {', '.join(CONTAINERS)}")
        if not path.absolute().parent.is_dir():
            raise SinkError(f"there is no folder {path.absolute().parent} to record into")
        rate = Fraction(fps).limit_denominator(100_000)
        if not 0 < rate <= 1000:
            raise SinkError(f"a rate lies above 0 and up to 1000 frames a second, not {fps}")
        super().__init__(_ClipFile(path, rate), name=f"recording {path.name}", every_frame=every_frame)


class _ClipFile:
    """The clip on disk: opened with the first frame, renamed when it is whole."""

    def __init__(self, path: Path, fps: Fraction) -> None:
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._fps = fps
        self._container: av.container.OutputContainer | None = None
        self._stream: av.VideoStream | None = None
        self._first = (PixelFormat.BGRX, 0, 0)

    def write(self, frame: Frame, tick: int) -> None:
        if self._container is None:
            self._open(frame)
        picture = self._picture(frame)
        picture.pts, picture.time_base = tick, 1 / self._fps
        self._mux(picture)

    def finish(self) -> None:
        if self._container is None:
            return
        self._mux(None)
        self._container.close()
        self._container = None
        os.replace(self._part, self._path)

    def abandon(self) -> None:
        container, self._container = self._container, None
        with contextlib.suppress(Exception):
            if container is not None:
                container.close()
        with contextlib.suppress(OSError):
            self._part.unlink(missing_ok=True)

    def _mux(self, picture: av.VideoFrame | None) -> None:
        assert self._stream is not None and self._container is not None
        for packet in self._stream.encode(picture):
            self._container.mux(packet)

    def _open(self, frame: Frame) -> None:
        self._first = (frame.format, frame.width, frame.height)
        # bitexact: no creation time, no random ids in the container.
        container = av.open(str(self._part), "w", format=CONTAINERS[self._path.suffix.lower()], options={"fflags": "bitexact"})
        self._container = container
        encoder = best_encoder()
        stream = container.add_stream(encoder, rate=self._fps, options=X264_OPTIONS if encoder == "libx264" else {})
        stream.width, stream.height = frame.width + frame.width % 2, frame.height + frame.height % 2
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.color_range, context.colorspace = LIMITED, BT709
        context.color_primaries, context.color_trc = BT709, BT709
        if encoder == "libx264":
            context.thread_type, context.thread_count = "FRAME", X264_THREADS
        else:
            context.bit_rate = max(2_000_000, int(stream.width * stream.height * self._fps * 0.2))
        self._stream = stream
        # At once and not with the first packet: a place that cannot be written to shows with the first frame.
        container.start_encoding()

    def _picture(self, frame: Frame) -> av.VideoFrame:
        """The frame as yuv420p of the recording's size, BT.709 limited."""
        form, width, height = self._first
        if (frame.width, frame.height) != (width, height):
            pixels = letterbox(frame, width, height)
            frame = Frame(pixels=pixels, format=PixelFormat.BGRX, captured_at=frame.captured_at, index=frame.index)
        if width % 2 or height % 2:
            padded = cv2.copyMakeBorder(frame.pixels, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
            pixels = np.asarray(padded, dtype=np.uint8)
            frame = Frame(pixels=pixels, format=frame.format, captured_at=frame.captured_at, index=frame.index)
        picture = as_video_frame(frame).reformat(
            format="yuv420p",
            src_colorspace=BT709,
            dst_colorspace=BT709,
            src_color_range=LIMITED if frame.format is PixelFormat.UYVY else FULL,
            dst_color_range=LIMITED,
            interpolation=EXACT,
        )
        picture.colorspace, picture.color_range = BT709, LIMITED
        return picture


def best_encoder() -> str:
    """The best H.264 encoder this PyAV has, MPEG-4 where it has none; SinkError if it can encode nothing."""
    for name in ENCODERS:
        with contextlib.suppress(ValueError, av.error.FFmpegError):
            av.codec.Codec(name, "w")
            return name
    raise SinkError(f"this PyAV has none of the encoders {', '.join(ENCODERS)}: install it again from its wheel")


def letterbox(frame: Frame, width: int, height: int) -> Pixels:
    """uint8 [height, width, 4], opaque: the whole frame in the middle, black around it."""
    scale = min(width / frame.width, height / frame.height)
    inner_width, inner_height = max(1, round(frame.width * scale)), max(1, round(frame.height * scale))
    left, top = (width - inner_width) // 2, (height - inner_height) // 2
    canvas = np.zeros((height, width, 4), dtype=np.uint8)
    canvas[..., 3] = 255
    inner = to_bgra(frame, size=(inner_width, inner_height))
    canvas[top : top + inner_height, left : left + inner_width, :3] = inner[..., :3]
    return canvas
