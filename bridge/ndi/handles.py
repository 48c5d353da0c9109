"""Three handles on the NDI library that make its hazards impossible: sender, receiver, finder.

The binding crashes the process on plain misuse (a handle used after its end, or ended twice; a frame read
after it was given back; a picture smaller than its stated size), so nothing of it leaves this file: no
library object, no frame, no constant.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Any, Self

from bridge.ndi.library import NdiNameTaken, NdiRefused, load
from bridge.ndi.metadata import checked_xml
from bridge.ndi.pictures import PictureRefused, check_picture, padded_to_even
from bridge.ndi.sources import NdiSource
from bridge.ndi.timecode import LAST_TIMECODE, rate_pair
from engine.frames import PixelFormat, Pixels

MOST_NAME_BYTES = 253
"""The full name "HOST (name)" in UTF-8; with more the library makes no sender."""

MOST_DRAINED = 64
"""Captures in one `newest`: the library queues 10 frames, the rest are its status notes."""

LEAST_OPEN_SECONDS = 0.3
"""No connection is cut younger than this: a sender whose new connection is cut at once sometimes aborts, with its
whole process (measured: 16 of 8,000 receivers and 6 of 13,000 searches that ended within 1 ms of their begin)."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A received picture, a copy of its own. timecode: 100 ns ticks. passed_over: older frames skipped for it."""

    pixels: Pixels
    format: PixelFormat
    timecode: int
    passed_over: int


class _Handle:
    """What the three handles share: one library object, made once, ended once, every use under one lock."""

    def __init__(self) -> None:
        self._ndi = load()
        self._lock = threading.RLock()
        self._opened_at = time.monotonic()
        self._held: Any = None

    def _open(self) -> Any:
        if self._held is None:
            raise NdiRefused(f"this {type(self).__name__} is closed: make a new one")
        return self._held

    def _let_settle(self) -> None:
        time.sleep(max(0.0, self._opened_at + LEAST_OPEN_SECONDS - time.monotonic()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it. A second time does nothing."""
        raise NotImplementedError


class SendHandle(_Handle):
    """One named sender. Any thread may use it; `close` waits for a send that is under way."""

    def __init__(self, *, name: str) -> None:
        """Announce the sender. Raises NdiUnavailable, NdiNameTaken, NdiRefused (no name, or too long a one)."""
        super().__init__()
        if not name.strip() or "\0" in name:
            raise NdiRefused("an NDI sender needs a name")
        full = f"{socket.gethostname()} ({name})"
        if len(full.encode()) > MOST_NAME_BYTES:
            raise NdiRefused(f"the NDI name {name[:24]!r}... is too long: host and name take {MOST_NAME_BYTES} bytes")
        # Not clocked: a clocked send waits for the stated rate inside the library, a frame of latency.
        self._held = self._ndi.send_create(self._ndi.SendCreate(p_ndi_name=name, clock_video=False, clock_audio=False))
        if self._held is None:
            raise NdiNameTaken(f"another sender on this computer is named {name!r}: stop it or choose another name")
        self.full_name = str(self._ndi.send_get_source_name(self._held).ndi_name)

    def send(self, *, pixels: Pixels, pixel_format: PixelFormat, timecode: int, rate: Fraction) -> None:
        """Encode and send one picture; returns when `pixels` is free again.

        pixels: uint8 [H, W, channels], both sides >= 32; odd sides are padded by repeating the last row or column.
        timecode: 100 ns ticks. rate: frames a second. Raises PictureRefused, NdiRefused (closed).
        """
        check_picture(pixels, pixel_format)
        if not 0 <= timecode <= LAST_TIMECODE:
            raise PictureRefused(f"{timecode} is no NDI timecode")
        video = self._ndi.VideoFrameV2()
        # First: setting the data resets the size and stride that the library will read by.
        video.data = padded_to_even(pixels)
        video.FourCC = getattr(self._ndi, f"FOURCC_VIDEO_TYPE_{pixel_format.name}")
        video.frame_rate_N, video.frame_rate_D = rate_pair(rate)
        video.timecode = timecode
        with self._lock:
            self._ndi.send_send_video_v2(self._open(), video)

    def connections(self) -> int:
        """Receivers connected now."""
        with self._lock:
            return int(self._ndi.send_get_no_connections(self._open(), 0))

    def tally(self) -> tuple[bool, bool]:
        """(on program, on preview) at any receiver."""
        tally = self._ndi.Tally()
        with self._lock:
            self._ndi.send_get_tally(self._open(), tally, 0)
        return bool(tally.on_program), bool(tally.on_preview)

    def add_connection_metadata(self, xml: str) -> None:
        """Have every receiver told `xml` when it connects. Raises ValueError for what NDI would not carry."""
        checked_xml(xml)
        with self._lock:
            self._ndi.send_add_connection_metadata(self._open(), self._ndi.MetadataFrame(p_data=xml))

    def close(self) -> None:
        """End the sender; its name is free again."""
        with self._lock:
            held, self._held = self._held, None
            if held is not None:
                self._ndi.send_destroy(held)


class ReceiveHandle(_Handle):
    """One connection to one source, bound to the thread that made it: any other thread is refused."""

    def __init__(self, *, source: NdiSource, receiver_name: str) -> None:
        """Begin to connect; whether it works shows in `connections`. Raises NdiUnavailable, NdiRefused."""
        super().__init__()
        self._thread = threading.get_ident()
        ndi = self._ndi
        wanted = ndi.Source(p_ndi_name=source.name or None, p_url_address=source.url)
        # UYVY where there is no alpha (the cheapest to decode), BGRA where there is; never fields.
        self._held = ndi.recv_create_v3(
            ndi.RecvCreateV3(wanted, ndi.RECV_COLOR_FORMAT_UYVY_BGRA, ndi.RECV_BANDWIDTH_HIGHEST, False, receiver_name)
        )
        if self._held is None:
            raise NdiRefused(f"the NDI library made no receiver for {source.name or source.url}")
        self._formats = {getattr(ndi, f"FOURCC_VIDEO_TYPE_{each.name}"): each for each in PixelFormat}

    def _open(self) -> Any:
        if threading.get_ident() != self._thread:
            raise NdiRefused("an NDI receiver belongs to the thread that made it: use it there only")
        return super()._open()

    def newest(self, *, timeout_seconds: float) -> Arrived | None:
        """The newest frame that is there or comes in time, older ones passed over; None if none comes.

        May return None early, when the library reports something else than a frame.
        Raises PictureRefused for a picture in a format that was not asked for.
        """
        held, wait_ms = self._open(), max(0, round(timeout_seconds * 1000))
        video: Any = None
        passed_over = 0
        try:
            for _ in range(MOST_DRAINED):
                kind, arrived, _, _ = self._ndi.recv_capture_v2(held, wait_ms, True, False, False)
                if arrived is not None:
                    if video is not None:
                        self._ndi.recv_free_video_v2(held, video)
                        passed_over += 1
                    video = arrived
                elif kind in (self._ndi.FRAME_TYPE_NONE, self._ndi.FRAME_TYPE_ERROR):
                    break
                wait_ms = 0
            return None if video is None else self._copy(video, passed_over)
        finally:
            if video is not None:
                self._ndi.recv_free_video_v2(held, video)

    def _copy(self, video: Any, passed_over: int) -> Arrived:
        pixel_format = self._formats.get(video.FourCC)
        if pixel_format is None:
            raise PictureRefused(f"the source sends {video.FourCC}, which was not asked for")
        height, width = int(video.yres), int(video.xres)
        pixels: Pixels = video.data  # every read of it is a full copy: read it once
        if pixels.shape != (height, width, pixel_format.channels):
            raise PictureRefused(f"the source's {width}x{height} picture cannot be read: give it 32 pixels a side")
        return Arrived(pixels=pixels, format=pixel_format, timecode=int(video.timecode), passed_over=passed_over)

    def connections(self) -> int:
        """1 while connected, 0 after a loss; a source that hangs still counts."""
        return int(self._ndi.recv_get_no_connections(self._open()))

    def dropped_frames(self) -> int:
        """Frames that the library's own queue dropped so far."""
        _, dropped = self._ndi.recv_get_performance(self._open())
        return int(dropped.video_frames)

    def set_tally(self, *, program: bool, preview: bool) -> None:
        """Tell the source whether it is on program or preview here."""
        self._ndi.recv_set_tally(self._open(), self._ndi.Tally(program, preview))

    def close(self) -> None:
        """End the connection, on the thread that made it; see LEAST_OPEN_SECONDS."""
        if self._held is not None:
            held = self._open()
            self._let_settle()
            self._held = None
            self._ndi.recv_destroy(held)


class FindHandle(_Handle):
    """One search of the network, usable from any thread, one at a time."""

    def __init__(self, *, extra_ips: Sequence[str]) -> None:
        """Begin to search, asking also each of `extra_ips` directly. Raises NdiUnavailable, NdiRefused."""
        super().__init__()
        self._held = self._ndi.find_create_v2(self._ndi.FindCreate(True, None, ",".join(extra_ips) or None))
        if self._held is None:
            raise NdiRefused("the NDI library made no finder")

    def wait(self, *, timeout_seconds: float) -> bool:
        """Wait until the list changes; False if it did not in time."""
        with self._lock:
            return bool(self._ndi.find_wait_for_sources(self._open(), max(0, round(timeout_seconds * 1000))))

    def sources(self) -> list[NdiSource]:
        """What is known now, each source once, in the library's order."""
        with self._lock:
            found: dict[str, NdiSource] = {}
            for each in self._ndi.find_get_current_sources(self._open()):
                source = NdiSource(name=str(each.ndi_name), url=str(each.url_address))
                found.setdefault(source.name, source)
        return list(found.values())

    def close(self) -> None:
        """End the search; see LEAST_OPEN_SECONDS."""
        with self._lock:
            if self._held is not None:
                self._let_settle()
            held, self._held = self._held, None
            if held is not None:
                self._ndi.find_destroy(held)
