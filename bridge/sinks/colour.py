"""Frames as PyAV pictures and as BGRA bytes, on the host: BT.709 limited range for UYVY. No torch, no files."""

from __future__ import annotations

import av
import numpy as np

from bridge.ffmpeg_colour import BT709, EXACT, FULL, LIMITED
from engine.frames import Frame, PixelFormat, Pixels


def as_video_frame(frame: Frame) -> av.VideoFrame:
    """A PyAV picture with the pixels of `frame`, tagged with its matrix and range. BGRA and BGRX both become bgra."""
    if frame.format is not PixelFormat.UYVY:
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame.pixels), format="bgra")
        picture.color_range = FULL
        return picture
    picture = av.VideoFrame(frame.width, frame.height, "uyvy422")
    plane = picture.planes[0]
    rows = np.frombuffer(plane, dtype=np.uint8)[: plane.line_size * frame.height].reshape(frame.height, plane.line_size)
    rows[:, : 2 * frame.width] = frame.pixels.reshape(frame.height, 2 * frame.width)
    picture.colorspace, picture.color_range = BT709, LIMITED
    return picture


def to_bgra(frame: Frame, *, size: tuple[int, int] | None = None) -> Pixels:
    """uint8 [H, W, 4] of any frame, its own memory, scaled to `size` (width, height) if given; opaque unless BGRA."""
    width, height = size or (frame.width, frame.height)
    if frame.format is not PixelFormat.UYVY and (width, height) == (frame.width, frame.height):
        pixels = frame.pixels.copy()
    else:
        uyvy = frame.format is PixelFormat.UYVY
        pixels = (
            as_video_frame(frame)
            .reformat(
                width=width,
                height=height,
                format="bgra",
                src_colorspace=BT709,
                src_color_range=LIMITED if uyvy else FULL,
                dst_color_range=FULL,
                interpolation=EXACT,
            )
            .to_ndarray()
        )
    if frame.format is not PixelFormat.BGRA:
        pixels[..., 3] = 255
    return np.ascontiguousarray(pixels)
