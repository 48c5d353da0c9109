"""A sending NDI peer on the binding `cyndilib`, run as a script: a moving pattern, a clip or frames from a file.

Prints "ready" once it is announced, then a line "sent N connections C" at its end.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from cyndilib.sender import Sender
from cyndilib.video_frame import VideoSendFrame
from cyndilib.wrapper.ndi_structs import FourCC


def pattern(width: int, height: int) -> Iterator[np.ndarray]:
    """BGRA frames [H, W, 4]: soft waves that drift, smooth like a photo, so that NDI's codec keeps them."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    frame = np.full((height, width, 4), 255, np.uint8)
    for step in range(1 << 30):
        for channel, (across, down) in enumerate(((37, 71), (53, 41), (89, 29))):
            wave = np.sin((x + 4 * step) / across) * np.cos((y - 2 * step) / down)
            frame[..., channel] = (wave * 90 + 128).astype(np.uint8)
        yield frame


def clip(path: str) -> Iterator[np.ndarray]:
    """BGRA frames of a clip, over and over."""
    import av

    while True:
        with av.open(path) as container:
            for picture in container.decode(video=0):
                yield picture.to_ndarray(format="bgra")


def stored(path: str) -> Iterator[np.ndarray]:
    """The frames of an .npy file, [H, W, C] or [N, H, W, C], over and over."""
    frames = np.load(path)
    frames = frames[None] if frames.ndim == 3 else frames
    while True:
        yield from frames


def main() -> None:
    """Send until the time is over or the process is killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--npy", help="frames [H, W, C] or [N, H, W, C], uint8, in the layout of --format")
    parser.add_argument("--clip", help="a video file")
    parser.add_argument("--size", default="640x360", help="of the moving pattern")
    parser.add_argument("--format", choices=("BGRA", "BGRX", "UYVY"), default="BGRX")
    parser.add_argument("--fps", type=float, default=30)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()

    width, height = (int(side) for side in options.size.split("x"))
    frames = stored(options.npy) if options.npy else clip(options.clip) if options.clip else pattern(width, height)
    first = next(frames)
    video = VideoSendFrame()
    video.set_resolution(first.shape[1], first.shape[0])
    video.set_fourcc(getattr(FourCC, options.format))
    video.set_frame_rate(Fraction(options.fps).limit_denominator(1001))
    sender = Sender(ndi_name=options.name, clock_video=False, clock_audio=False)
    sender.set_video_frame(video)
    sender.open()
    print("ready", flush=True)

    sent = most = 0
    started = due = time.monotonic()
    while due < started + options.seconds:
        time.sleep(max(0.0, due - time.monotonic()))
        sender.write_video(np.ascontiguousarray(first).reshape(-1))
        sent += 1
        most = max(most, sender.get_num_connections(0))
        due += 1 / options.fps
        first = next(frames)
    print(f"sent {sent} connections {most}", flush=True)
    sys.stdout.flush()
    os._exit(0)  # the library's own end can take a second


if __name__ == "__main__":
    main()
