"""Clips, still pictures and folders of pictures as plain frames in order: decoding only, no threads and no pace."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from bridge.ffmpeg_colour import BT601, BT709, EXACT, FULL, LIMITED, UNSPECIFIED_MATRICES
from bridge.sources.own_thread import SourceError
from engine.frames import PixelFormat, Pixels

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
FOLDER_FPS = Fraction(30)
"""Rate of pictures that have none: stills and folders."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """One decoded picture. pixels: uint8 [H, W, 4], its own memory. at_seconds: since the first picture of the clip."""

    pixels: Pixels
    format: PixelFormat
    at_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipFacts:
    """What a clip says of itself. size: (width, height) as shown, turned if the file says so. frame_count: 0 if unknown.

    format: of its first picture. still: one picture without a time.
    """

    fps: Fraction
    frame_count: int
    size: tuple[int, int]
    duration_seconds: float
    format: PixelFormat
    still: bool


def facts_of(path: Path | str, *, fps: Fraction | None = None) -> ClipFacts:
    """Facts of a clip, a picture, or a folder of pictures (`fps` is the rate of the last two).

    Raises SourceError if nothing in it can be decoded.
    """
    path = Path(path)
    rate = fps or FOLDER_FPS
    first = next(pictures_of(path), None)
    if first is None:
        raise SourceError(f"{path} holds no picture that can be decoded")
    count, still, duration = 1, True, float(1 / rate)
    if path.is_dir():
        count, still = len(pictures_in(path)), False
        duration = float(count / rate)
    elif not _is_picture(path):
        with _opened(path) as container:
            stream = container.streams.video[0]
            rate, still = _rate(stream), False
            duration = _duration(container, stream)
            count = int(stream.frames) or round(duration * rate)
        duration = duration or float(count / rate)
    size = (int(first.pixels.shape[1]), int(first.pixels.shape[0]))
    return ClipFacts(fps=rate, frame_count=count, size=size, duration_seconds=duration, format=first.format, still=still)


def frames_of(path: Path | str) -> Iterator[Pixels]:
    """Every picture once and in order, uint8 [H, W, 4] in the byte order of `facts_of(path).format`, for rendering."""
    return (picture.pixels for picture in pictures_of(path))


def pictures_of(path: Path | str, *, fps: Fraction | None = None) -> Iterator[Picture]:
    """Every picture once and in order; stills and folders advance by 1/`fps`. SourceError if there is none."""
    path = Path(path)
    if not path.exists():
        raise SourceError(f"there is no file or folder {path}")
    if not path.is_dir():
        return _decode(path)
    return _from_folder(path, fps or FOLDER_FPS)


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder in name order, numbers in names counted as numbers."""

    def order(path: Path) -> list[tuple[int, int, str]]:
        parts = re.split(r"(\d+)", path.name.casefold())
        return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]

    return sorted((path for path in folder.iterdir() if path.is_file() and _is_picture(path)), key=order)


def _from_folder(folder: Path, fps: Fraction) -> Iterator[Picture]:
    paths = pictures_in(folder)
    if not paths:
        raise SourceError(f"the folder {folder} holds no pictures ({' '.join(PICTURE_SUFFIXES)})")
    for position, path in enumerate(paths):
        picture = next(_decode(path))
        yield Picture(pixels=picture.pixels, format=picture.format, at_seconds=float(position / fps))


def _decode(path: Path) -> Iterator[Picture]:
    """The pictures of one file by its own time stamps; broken packets are left out, a file without any is an error."""
    count, broken, first_at, at = 0, 0, 0.0, 0.0
    with _opened(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        step = float(1 / _rate(stream))
        for frames in _packets(container, stream):
            if frames is None:
                broken += 1
                continue
            for frame in frames:
                # A file without time stamps, or with one that runs backwards, goes on by its rate.
                stamp = frame.time
                if count == 0:
                    first_at = float(stamp or 0.0)
                else:
                    at = at + step if stamp is None or stamp - first_at <= at else float(stamp) - first_at
                count += 1
                yield _convert(frame, at)
    if not count:
        raise SourceError(f"{path} holds no picture that can be decoded: is it a video or a picture, and whole?")
    if broken:
        log.warning("%s: %d broken packets were left out", path, broken)


def _packets(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[list[av.VideoFrame] | None]:
    """The frames of each packet, None for a packet that cannot be decoded; ends early where the file is cut off."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.error.FFmpegError):
            return
        try:
            yield packet.decode()
        except av.error.FFmpegError:
            yield None


def _convert(frame: av.VideoFrame, at_seconds: float) -> Picture:
    """To BGRA or BGRX bytes, turned the way the file says."""
    source_matrix = int(frame.colorspace)
    if source_matrix in UNSPECIFIED_MATRICES:
        # The convention of the trade for files that do not say: BT.709 from HD up, BT.601 below.
        source_matrix = BT709 if frame.height >= 720 else BT601
    full = int(frame.color_range) == FULL or frame.format.name.startswith("yuvj")
    converted = frame.reformat(
        format="bgra",
        src_colorspace=source_matrix,
        src_color_range=FULL if full else LIMITED,
        dst_color_range=FULL,
        interpolation=EXACT,
    )
    pixels = converted.to_ndarray()
    quarter_turns = round(getattr(frame, "rotation", 0) / 90) % 4
    if quarter_turns:
        pixels = np.rot90(pixels, quarter_turns)
    alpha = frame.format.has_palette or any(part.is_alpha for part in frame.format.components)
    return Picture(
        pixels=np.ascontiguousarray(pixels),
        format=PixelFormat.BGRA if alpha else PixelFormat.BGRX,
        at_seconds=at_seconds,
    )


def _opened(path: Path) -> av.container.InputContainer:
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError, ValueError) as failure:
        reason = getattr(failure, "strerror", None) or str(failure)
        raise SourceError(f"{path} cannot be opened as a video or a picture: {reason}") from None
    if not container.streams.video:
        container.close()
        raise SourceError(f"{path} has no video in it")
    return container


def _rate(stream: av.VideoStream) -> Fraction:
    rate = stream.guessed_rate or stream.average_rate or stream.base_rate
    return Fraction(rate) if rate and 0 < rate <= 1000 else FOLDER_FPS


def _duration(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return float(container.duration / 1_000_000) if container.duration else 0.0


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES
