"""Processes that draw pairs beside the training and hand them over through shared memory; without processes it draws by itself."""

import multiprocessing
import os
import queue
from collections.abc import Callable
from dataclasses import dataclass, fields
from multiprocessing.shared_memory import SharedMemory

import cv2
import numpy as np
import numpy.typing as npt
import torch

from .networks import LATENTS
from .pairs import PROMPTS, DrawnPairs, PairArtist
from .tokenizer import MAX_TOKENS

SLOTS_EACH = 2  # hand-over places a process

MakeArtist = Callable[[], PairArtist]


@dataclass(frozen=True)
class Layout:
    """Where the arrays of `count` pairs of `side` pixels lie in one piece of memory."""

    count: int
    side: int

    def shapes(self) -> dict[str, tuple[tuple[int, ...], type[np.generic]]]:
        """Shape and type of each array of `DrawnPairs`."""
        n, side = self.count, self.side
        return {
            "contents": ((n, side, side, 3), np.uint8),
            "drawn": ((n, side, side, 3), np.uint8),
            "recipes": ((n, 6), np.int64),
            "ids": ((n, PROMPTS, MAX_TOKENS), np.int16),
            "noise": ((n, LATENTS, side // 8, side // 8), np.float16),
        }

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(int(np.prod(shape)) * np.dtype(kind).itemsize for shape, kind in self.shapes().values())

    def views(self, memory: SharedMemory) -> DrawnPairs:
        """The arrays in `memory`."""
        found: dict[str, npt.NDArray[np.generic]] = {}
        place = 0
        for name, (shape, kind) in self.shapes().items():
            found[name] = np.ndarray(shape, dtype=kind, buffer=memory.buf, offset=place)
            place += found[name].nbytes
        return DrawnPairs(**found)  # type: ignore[arg-type]


class DrawingRoom:
    """Batches of `layout.count` pairs from `processes` artists; use as a context manager.

    make_artist is called once in every process and must be picklable. Batches come in the order in which they are done.
    """

    def __init__(self, make_artist: MakeArtist, *, layout: Layout, processes: int, seed: int) -> None:
        self.layout, self.seed = layout, seed
        self._artist = make_artist() if processes == 0 else None
        self._generator = np.random.default_rng([seed, 0])
        context = multiprocessing.get_context("spawn")
        self._slots = [SharedMemory(create=True, size=layout.size) for _ in range(SLOTS_EACH * processes)]
        self._free, self._ready = context.Queue(), context.Queue()
        for number in range(len(self._slots)):
            self._free.put(number)
        names = [slot.name for slot in self._slots]
        self._workers = [
            context.Process(target=_draw, args=(make_artist, layout, names, self._free, self._ready, [seed, number + 1]), daemon=True)
            for number in range(processes)
        ]
        for worker in self._workers:
            worker.start()

    def __enter__(self) -> "DrawingRoom":
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.terminate()
            worker.join()
        for slot in self._slots:
            slot.close()
            slot.unlink()

    def next(self, *, wait: bool) -> DrawnPairs | None:
        """One batch that belongs to the caller; None if none is ready and the caller does not wait."""
        if self._artist is not None:
            return self._artist.drawn(self.layout.count, self._generator)
        while True:
            try:
                number = self._ready.get(timeout=5.0) if wait else self._ready.get_nowait()
            except queue.Empty:
                if not all(worker.is_alive() for worker in self._workers):
                    raise RuntimeError("a drawing process has ended; its own message above says why") from None
                if not wait:
                    return None
                continue
            found = self.layout.views(self._slots[number])
            copied = DrawnPairs(*(np.array(getattr(found, field.name)) for field in fields(found)))
            del found
            self._free.put(number)
            return copied


def _draw(
    make_artist: MakeArtist,
    layout: Layout,
    names: list[str],
    free: "multiprocessing.Queue[int]",
    ready: "multiprocessing.Queue[int]",
    seed: list[int],
) -> None:
    """The life of one process: fill every free place."""
    cv2.setNumThreads(1)  # as many processes as cores draw: threads of their own would stand in each other's way
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    artist = make_artist()
    generator = np.random.default_rng(seed)
    slots = [SharedMemory(name=name) for name in names]
    while True:
        number = free.get()
        batch = artist.drawn(layout.count, generator)
        views = layout.views(slots[number])
        for field in fields(batch):
            getattr(views, field.name)[:] = getattr(batch, field.name)
        del views
        ready.put(number)
