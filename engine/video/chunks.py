"""Frames collected into chunks: what waits is bounded, the newest always comes along, and what is left out is counted.

A chunk of a video codec with four pictures a latent holds 1 + 4k pictures at the start of a session and 4k afterwards. No
pixels are looked at here: an item is whatever stands for a frame, an uploaded tensor or a copy.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Collected(Generic[Item]):
    """One frame that waits. captured_at: monotonic seconds of its capture. index: counts the frames of its source."""

    item: Item
    captured_at: float
    index: int


@dataclass(frozen=True, slots=True)
class Chunk(Generic[Item]):
    """The frames of one chunk, oldest first. first: it starts a session. dropped: frames left out since the chunk before."""

    frames: tuple[Collected[Item], ...]
    first: bool
    dropped: int


class FrameChunks(Generic[Item]):
    """Collects the frames of one session until a chunk is full.

    The first chunk takes `first_pictures` (1 starts at once: Wan's first latent is a single frame; 5 is what was trained as the first
    block of two latents), every later one as many as are asked for. room: the most frames that wait; when one more comes, the
    oldest is dropped. When more wait than a chunk holds, because the device is slower than the source, the chunk takes some of
    them spread evenly in time, the newest among them, so that motion keeps an even pace; the others are dropped. So the
    device is never further behind than one chunk and what came in while it was busy.
    """

    def __init__(self, *, first_pictures: int = 1, room: int = 32) -> None:
        if not 1 <= first_pictures <= room:
            raise ValueError(f"the first chunk holds 1 to {room} pictures, not {first_pictures}")
        self._first_pictures = first_pictures
        self._room = room
        self._waiting: deque[Collected[Item]] = deque()
        self._is_first = True
        self._left_out = 0
        self.dropped = 0
        """Frames left out since the beginning, resets included."""

    def put(self, item: Item, *, captured_at: float, index: int) -> None:
        """Let a frame wait; if there is no room, the oldest one goes."""
        self._waiting.append(Collected(item, captured_at, index))
        if len(self._waiting) > self._room:
            self._waiting.popleft()
            self._drop(1)

    def take(self, pictures: int) -> Chunk[Item] | None:
        """A chunk of `pictures` frames (of `first_pictures` if it is the session's first), or None while there are too few.

        ValueError for a number that never fits.
        """
        if not 1 <= pictures <= self._room:
            raise ValueError(f"a chunk holds 1 to {self._room} pictures, not {pictures}")
        wanted = self._first_pictures if self._is_first else pictures
        waiting = len(self._waiting)
        if waiting < wanted:
            return None
        newest, spread = range(waiting - wanted, waiting), [(i + 1) * waiting // wanted - 1 for i in range(wanted)]
        # A session's first frames follow nothing, so that there is no pace to keep.
        frames = tuple(self._waiting[place] for place in (newest if self._is_first else spread))
        self._waiting.clear()
        self._drop(waiting - wanted)
        chunk = Chunk(frames, self._is_first, self._left_out)
        self._is_first, self._left_out = False, 0
        return chunk

    def reset(self, *, first_pictures: int | None = None) -> None:
        """Start a new session: what waits is dropped and counted, and the next chunk is a first one."""
        self._drop(len(self._waiting))
        self._waiting.clear()
        self._is_first = True
        self._left_out = 0
        if first_pictures is not None:
            if not 1 <= first_pictures <= self._room:
                raise ValueError(f"the first chunk holds 1 to {self._room} pictures, not {first_pictures}")
            self._first_pictures = first_pictures

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._left_out += count

    @property
    def waiting(self) -> int:
        """Frames that wait."""
        return len(self._waiting)

    @property
    def is_first(self) -> bool:
        """Whether the next chunk starts a session."""
        return self._is_first

    @property
    def oldest_captured_at(self) -> float | None:
        """When the frame that has waited longest was captured; a controller of deadlines looks at it."""
        return self._waiting[0].captured_at if self._waiting else None
