"""The preview's rules with a clock and an encoder held in hand: who pays for a picture, how often, and which one."""

from __future__ import annotations

import asyncio
import threading

import numpy as np

from bridge.web.preview import Preview
from engine.frames import Frame, PixelFormat


class Projector:
    """A preview whose time stands still unless moved; a picture is the frame's index as text."""

    def __init__(self) -> None:
        self.time = 100.0
        self.index = 0
        self.go = threading.Event()
        self.go.set()
        self.preview = Preview(self._encode, now=lambda: self.time)

    def _encode(self, frame: Frame) -> bytes:
        assert self.go.wait(10)
        if frame.index == 13:
            raise ValueError("an unlucky frame")
        return b"%d" % frame.pixels[0, 0, 0]

    def show(self, level: int, *, after: float = 0.05) -> None:
        self.time += after
        pixels = np.full((2, 2, 4), level, np.uint8)
        self.preview.show(Frame(pixels=pixels, format=PixelFormat.BGRX, captured_at=0.0, index=level))
        pixels[:] = 0  # the caller may use its buffer again at once


def test_only_watchers_cost_anything() -> None:
    async def scene() -> None:
        projector = Projector()
        preview = projector.preview
        projector.show(1)
        assert preview.copied == 0
        async with preview.watching():
            projector.show(2)
            assert await preview.next_picture(0) == (1, b"2")
        projector.show(3)
        assert (preview.copied, preview.watchers, preview._encoder) == (1, 0, None)

    asyncio.run(scene())


def test_at_most_25_copies_a_second() -> None:
    async def scene() -> None:
        projector = Projector()
        async with projector.preview.watching():
            for _ in range(1000):  # ten seconds at 100 frames a second
                projector.show(5, after=0.01)
        assert 200 <= projector.preview.copied <= 251

    asyncio.run(scene())


def test_the_newest_is_encoded_and_later_watchers_never_see_old_pictures() -> None:
    async def scene() -> None:
        projector = Projector()
        preview = projector.preview
        async with preview.watching():
            projector.go.clear()
            projector.show(1)
            await asyncio.sleep(0)
            while preview._frame is not None:  # until the encoder has taken it
                await asyncio.sleep(0)
            for level in (2, 3, 4):
                projector.show(level)
            projector.go.set()
            number, first = await preview.next_picture(0)
            _, second = await preview.next_picture(number)
            assert (first, second, preview.encoded) == (b"1", b"4", 2)
        async with preview.watching():
            waiting = asyncio.create_task(preview.next_picture(0))
            await asyncio.sleep(0)
            projector.show(9)
            assert (await waiting)[1] == b"9"

    asyncio.run(scene())


def test_a_frame_that_cannot_be_encoded_does_not_end_the_preview() -> None:
    async def scene() -> None:
        projector = Projector()
        async with projector.preview.watching():
            projector.show(13)
            while projector.preview._frame is not None:
                await asyncio.sleep(0)
            projector.show(14)
            assert (await projector.preview.next_picture(0))[1] == b"14"

    asyncio.run(scene())


def test_showing_after_the_loop_has_ended_is_harmless() -> None:
    projector = Projector()

    async def scene() -> None:
        await projector.preview.watching().__aenter__()

    asyncio.run(scene())
    projector.show(1)
    projector.show(2)
    projector.preview.end()
