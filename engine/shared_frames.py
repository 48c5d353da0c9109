"""Frames across processes: a ring of slots in shared memory, one writer, one reader, the newest wins. Knows no parameters.

No lock that a killed process could keep. Writer and reader each announce a slot before they look at the other's
announcement: the writer never touches the newest slot or the one being read, the reader never sees a torn frame.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import numpy as np

from engine import segments
from engine.frames import Frame, PixelFormat, Pixels

SLOTS = 4
_PAGE = 4096

# Eight-byte words: first those of the ring, then WORDS for each slot, then from the next page on the slots' pixels.
_NEWEST, _HELD, _TAKEN, _LAST_TAKEN, _RUNG = range(5)
_WORDS = 8
_SEQUENCE, _FORMAT, _WIDTH, _HEIGHT, _STRIDE, _CAPTURED_AT, _INDEX = range(7)
# Doubled sequence numbers stand for complete slots, odd ones for slots that are being written.
_SLOT_BITS = 8


class FrameTooLarge(ValueError):
    """A frame that does not fit a slot; the text says how large it is and what fits."""


@dataclass(frozen=True, slots=True)
class RingHandle:
    """What a process started with `spawn` needs to attach one end: given as an argument of the process only."""

    name: str
    slots: int
    slot_bytes: int
    doorbell: Connection[bytes, bytes]


@dataclass(frozen=True, slots=True)
class RingCounts:
    """put: frames written; taken: frames the reader saw; dropped: frames replaced by a newer one before it did."""

    put: int
    taken: int
    dropped: int


class FrameRing:
    """The owner's side: makes the segment and the doorbell, outlives both ends, counts."""

    def __init__(self, frame_bytes: int, *, purpose: str, slots: int = SLOTS) -> None:
        """`frame_bytes`: the largest frame. Raises segments.NoSharedMemory."""
        if not SLOTS <= slots < 1 << _SLOT_BITS:
            raise ValueError("a ring has at least 4 slots: newest, being read, just announced by a late reader, being written")
        slot_bytes = -(-max(frame_bytes, 1) // _PAGE) * _PAGE
        self._segment = segments.create(purpose, _pixels_at(slots) + slots * slot_bytes)
        self.name = self._segment.name
        self._ears, self._button = Pipe(duplex=False)
        self._shape = (slots, slot_bytes)
        self._words = self._segment.buffer[: _pixels_at(slots)].cast("q")

    @property
    def writer_handle(self) -> RingHandle:
        """For the process that writes."""
        return RingHandle(self.name, *self._shape, self._button)

    @property
    def reader_handle(self) -> RingHandle:
        """For the process that reads."""
        return RingHandle(self.name, *self._shape, self._ears)

    def counts(self) -> RingCounts:
        """Since the ring was made, over all readers and writers it had."""
        words = self._words
        taken = words[_TAKEN]
        return RingCounts(put=words[_NEWEST] >> _SLOT_BITS, taken=taken, dropped=max(words[_LAST_TAKEN] - taken, 0))

    def remove(self) -> None:
        """Take the segment away; ends that are attached keep what they have mapped."""
        self._words.release()
        self._segment.remove()
        self._ears.close()
        self._button.close()


class _RingEnd:
    def __init__(self, handle: RingHandle) -> None:
        self._segment = segments.attach(handle.name)
        self._slots, self._slot_bytes = handle.slots, handle.slot_bytes
        self._doorbell = handle.doorbell
        self._fence = segments.Fence()
        head = self._segment.buffer[: _pixels_at(self._slots)]
        self._words, self._times = head.cast("q"), head.cast("d")

    @property
    def memory(self) -> Pixels:
        """All pixels of all slots, uint8 [slots * slot bytes], page aligned: for registering as pinned memory."""
        count = self._slots * self._slot_bytes
        return np.frombuffer(self._segment.buffer, np.uint8, count, _pixels_at(self._slots))

    def close(self) -> None:
        """Let go of the memory. A frame still looked at stays valid until it is let go."""
        self._words.release()
        self._times.release()
        self._segment.close()

    def _pixels(self, slot: int, height: int, width: int, channels: int) -> Pixels:
        start = _pixels_at(self._slots) + slot * self._slot_bytes
        flat = np.frombuffer(self._segment.buffer, np.uint8, height * width * channels, start)
        return flat.reshape(height, width, channels)


class RingWriter(_RingEnd):
    """The one who writes; goes on where a killed writer stopped. One thread at a time."""

    def __init__(self, handle: RingHandle) -> None:
        super().__init__(handle)
        self._claimed: tuple[int, PixelFormat, int, int] | None = None
        self.ring()  # a writer killed between flag and bell left the reader deaf

    def put(self, format: PixelFormat, pixels: Pixels, captured_at: float, index: int) -> None:
        """Copy a frame [H, W, channels] into the ring. Raises FrameTooLarge. Never waits for the reader."""
        height, width = pixels.shape[:2]
        np.copyto(self.begin(format, width, height), pixels)
        self.commit(captured_at, index)

    def begin(self, format: PixelFormat, width: int, height: int) -> Pixels:
        """An unread slot to write the next frame into, [H, W, channels]; `commit` shows it. Raises FrameTooLarge."""
        if width * height * format.channels > self._slot_bytes:
            raise FrameTooLarge(
                f"a frame of {width}x{height} {format.name} takes {width * height * format.channels / 2**20:.1f} MiB, "
                f"but the run was started for {self._slot_bytes / 2**20:.1f} MiB at most; start it for larger frames"
            )
        slot = self._claimed[0] if self._claimed else self._claim()
        self._claimed = (slot, format, width, height)
        return self._pixels(slot, height, width, format.channels)

    def commit(self, captured_at: float, index: int) -> None:
        """Show the frame written since `begin` as the newest."""
        if self._claimed is None:
            raise RuntimeError("commit comes after begin")
        slot, format, width, height = self._claimed
        words, at = self._words, _header_at(slot)
        sequence = (words[_NEWEST] >> _SLOT_BITS) + 1
        words[at + _FORMAT], words[at + _WIDTH], words[at + _HEIGHT] = format.value, width, height
        words[at + _STRIDE], words[at + _INDEX] = width * format.channels, index
        self._times[at + _CAPTURED_AT] = captured_at
        self._fence()
        words[at + _SEQUENCE] = 2 * sequence
        self._fence()
        words[_NEWEST] = sequence << _SLOT_BITS | slot
        self._claimed = None
        self._fence()
        if not words[_RUNG]:
            self.ring()

    def ring(self) -> None:
        """Wake the reader."""
        self._words[_RUNG] = 1
        try:
            self._doorbell.send_bytes(b"!")
        except OSError:
            return  # nobody is left to read; the owner's death is noticed elsewhere

    def _claim(self) -> int:
        words = self._words
        newest = words[_NEWEST]
        shown = newest & (1 << _SLOT_BITS) - 1 if newest else -1
        oldest_first = sorted((s for s in range(self._slots) if s != shown), key=lambda s: words[_header_at(s)])
        for slot in oldest_first:
            at = _header_at(slot) + _SEQUENCE
            before = words[at]
            words[at] = before | 1
            self._fence()
            if words[_HELD] != slot + 1:
                return slot
            words[at] = before  # the reader has it: leave it as it was
        raise RuntimeError("a ring has one reader; two seem to be attached")


class RingReader(_RingEnd):
    """The one who reads, an engine.ports.Source; a new one is given the newest frame even if a killed reader took it."""

    def __init__(self, handle: RingHandle) -> None:
        super().__init__(handle)
        self._words[_HELD] = 0
        self._words[_RUNG] = 0
        self._seen = (self._words[_NEWEST] >> _SLOT_BITS) - 1
        self._silent = False

    def newest(self) -> Frame | None:
        """The newest frame not handed out before, or None. Its pixels stay valid until the next frame is handed out."""
        words = self._words
        while True:
            newest = words[_NEWEST]
            sequence, slot = newest >> _SLOT_BITS, newest & (1 << _SLOT_BITS) - 1
            if sequence == 0 or sequence <= self._seen:
                return None
            words[_HELD] = slot + 1
            self._fence()
            if words[_header_at(slot) + _SEQUENCE] == 2 * sequence:
                break  # otherwise the writer went on meanwhile, and there is a newer one
        self._seen = sequence
        if sequence > words[_LAST_TAKEN]:
            words[_TAKEN] += 1
            words[_LAST_TAKEN] = sequence
        return self._frame(slot)

    def wait(self, timeout_seconds: float) -> bool:
        """Wait until there is a frame not handed out before; False if none came in time."""
        until = time.monotonic() + timeout_seconds
        while self._words[_NEWEST] >> _SLOT_BITS <= max(self._seen, 0):
            left = until - time.monotonic()
            if left <= 0:
                return False
            if self._silent:  # every writer is gone for good: do not turn in circles
                time.sleep(left)
            elif self._doorbell.poll(left):
                self._answer()
        return True

    def _answer(self) -> None:
        try:
            while self._doorbell.poll(0):
                self._doorbell.recv_bytes()
        except (EOFError, OSError):
            self._silent = True
        self._words[_RUNG] = 0
        self._fence()

    def _frame(self, slot: int) -> Frame:
        words, at = self._words, _header_at(slot)
        format = PixelFormat(words[at + _FORMAT])
        pixels = self._pixels(slot, words[at + _HEIGHT], words[at + _WIDTH], format.channels)
        pixels.flags.writeable = False
        return Frame(pixels=pixels, format=format, captured_at=self._times[at + _CAPTURED_AT], index=words[at + _INDEX])


def _header_at(slot: int) -> int:
    return _WORDS * (slot + 1)


def _pixels_at(slots: int) -> int:
    return -(-8 * _WORDS * (slots + 1) // _PAGE) * _PAGE
