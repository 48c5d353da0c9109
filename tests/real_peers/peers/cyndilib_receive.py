"""A receiving NDI peer on the binding `cyndilib`, run as a script: receives one source and writes what came.

It finds the source by name only, so the environment must let it (see the fixture `ndi_environment`).
Frames are read through the library's frame sync: the plain receive call of this binding loses frames to it.

Prints "found" once the source is known, "first" at the first frame. The .npz holds, per frame: `times` (monotonic
seconds), `timecodes` (100 ns ticks), `widths`, `heights`, `formats`; `rate` (frames a second, as told);
`kept_at` (which frames were kept) and `frame_0`, `frame_1`, ..: their bytes, [H, W, 2 or 4].
"""

from __future__ import annotations

import argparse
import os
import sys
import time

import numpy as np
from cyndilib.finder import Finder
from cyndilib.receiver import Receiver
from cyndilib.video_frame import VideoFrameSync
from cyndilib.wrapper.ndi_recv import RecvBandwidth, RecvColorFormat
from cyndilib.wrapper.ndi_structs import FourCC

CHANNELS = {FourCC.UYVY: 2, FourCC.BGRA: 4, FourCC.BGRX: 4, FourCC.RGBA: 4, FourCC.RGBX: 4}


def find(name: str, seconds: float) -> tuple[Finder, object]:
    """The finder and the source whose full or stream name is `name`; leaves with an error if there is none."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        finder = Finder()
        finder.open()
        again = time.monotonic() + 1.5  # a new finder meets other processes than the one before
        while time.monotonic() < again:
            for source in list(finder.iter_sources()):
                if source.name == name or source.name.endswith(f"({name})"):
                    return finder, source
            finder.wait_for_sources(0.1)
            finder.update_sources()
        finder.close()
    print("source not found", flush=True)
    os._exit(3)


def main() -> None:
    """Receive until the time is over or enough frames came; exit code 3 without a source, 4 without a frame."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--out", required=True, help="the .npz to write")
    parser.add_argument("--seconds", type=float, default=10, help="counted from the first frame")
    parser.add_argument("--frames", type=int, default=1 << 30, help="leave after so many frames")
    parser.add_argument("--keep-every", type=int, default=10)
    parser.add_argument("--keep-most", type=int, default=20)
    parser.add_argument("--wait", type=float, default=15, help="seconds to wait for the source and its first frame")
    parser.add_argument("--color", choices=("UYVY_BGRA", "BGRX_BGRA", "RGBX_RGBA"), default="UYVY_BGRA")
    parser.add_argument("--program", action="store_true", help="tell the source that it is on program")
    options = parser.parse_args()

    finder, source = find(options.name, options.wait)
    print("found", flush=True)
    receiver = Receiver(color_format=getattr(RecvColorFormat, options.color), bandwidth=RecvBandwidth.highest)
    video = VideoFrameSync()
    receiver.frame_sync.set_video_frame(video)
    receiver.set_source(source)
    times: list[float] = []
    timecodes: list[int] = []
    sizes: list[tuple[int, int]] = []
    formats: list[str] = []
    kept: dict[str, np.ndarray] = {}
    kept_at: list[int] = []
    rate, stamp = 0.0, None
    end = time.monotonic() + options.wait
    while time.monotonic() < end and len(times) < options.frames:
        if options.program and receiver.is_connected() and not receiver.program_tally:
            receiver.set_source_tally_program(True)
        receiver.frame_sync.capture_video()
        width, height = video.get_resolution()
        newest = (video.get_timestamp_posix(), video.get_timecode_posix())
        if not width or newest == stamp:
            time.sleep(0.002)
            continue
        stamp = newest
        if not times:
            end = time.monotonic() + options.seconds
            print("first", flush=True)
        format_ = FourCC(video.get_fourcc())
        if len(times) % options.keep_every == 0 and len(kept) < options.keep_most:
            rows = video.get_array()[: height * video.get_line_stride()].reshape(height, -1)
            kept[f"frame_{len(kept)}"] = rows[:, : width * CHANNELS[format_]].reshape(height, width, -1).copy()
            kept_at.append(len(times))
        times.append(time.monotonic())
        timecodes.append(round(newest[1] * 10_000_000))
        sizes.append((width, height))
        formats.append(format_.name)
        rate = float(video.get_frame_rate())
    widths, heights = np.array(sizes, np.int64).reshape(-1, 2).T
    np.savez(
        options.out,
        times=times,
        timecodes=timecodes,
        widths=widths,
        heights=heights,
        formats=formats,
        rate=rate,
        kept_at=kept_at,
        **kept,
    )
    print(f"received {len(times)}", flush=True)
    sys.stdout.flush()
    finder.close()
    os._exit(0 if times else 4)  # the library's own end can take a second


if __name__ == "__main__":
    main()
