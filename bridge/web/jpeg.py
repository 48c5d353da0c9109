"""A frame of any pixel format as a small JPEG (OpenCV)."""

from __future__ import annotations

import cv2
import numpy as np

from engine.frames import Frame, PixelFormat, Pixels

LONGEST_SIDE = 960
QUALITY = 80

_BGR_FROM_YUV = np.array(
    [
        [1.164384, 2.112402, 0.0, -289.0176],
        [1.164384, -0.213249, -0.532909, 76.8781],
        [1.164384, 0.0, 1.792741, -248.1010],
    ],
    dtype=np.float64,
)
"""BT.709 limited range to full range B, G, R; the last column holds the offsets."""


def encode_jpeg(frame: Frame, *, longest_side: int = LONGEST_SIDE, quality: int = QUALITY) -> bytes:
    """The frame, scaled down to at most `longest_side` pixels a side, as JPEG bytes. Alpha is ignored."""
    factor = min(1.0, longest_side / max(frame.width, frame.height))
    size = (max(1, round(frame.width * factor)), max(1, round(frame.height * factor)))
    if frame.format is PixelFormat.UYVY:
        planes = (frame.pixels[:, :, 1], frame.pixels[:, 0::2, 0], frame.pixels[:, 1::2, 0])
        yuv = cv2.merge([cv2.resize(np.ascontiguousarray(plane), size, interpolation=cv2.INTER_AREA) for plane in planes])
        bgr: Pixels = cv2.transform(yuv, _BGR_FROM_YUV)
    else:
        bgr = cv2.cvtColor(frame.pixels, cv2.COLOR_BGRA2BGR)
        if factor < 1.0:
            bgr = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA)
    done, picture = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError("the picture could not be encoded as JPEG")
    return bytes(picture)
