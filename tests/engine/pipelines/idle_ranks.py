"""Ranks that only wait or echo, for tests that end one of them: importable, as `spawn` needs it, and quickly imported."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import torch

from engine.control.live_values import Snapshot
from engine.frames import Frame
from engine.gpu.ranks import Place, Ranks
from engine.pipelines.passthrough import Passthrough
from engine.pipelines.rank_group import RankGroup
from engine.settings import Settings

CPU = torch.device("cpu")


def idle_rank(place: Place, folder: Path) -> None:
    """Joins, says who it is, and echoes for ever."""
    ranks = Ranks(place, CPU)
    (folder / f"{place.rank}.pid").write_text(str(os.getpid()))
    while True:
        words, tensors = ranks.receive(0)
        ranks.send(0, words, [tensor + ranks.rank for tensor in tensors])


def idle_head(folder: Path, count: int) -> None:
    """Rank 0 of a group that only waits; once every rank has answered, its own pid is written."""
    group = RankGroup(idle_rank, count, (folder,))
    ranks = Ranks(group.place, CPU)
    for rank in range(1, count):
        ranks.send(rank, {"hello": rank}, [torch.zeros(3, dtype=torch.bfloat16)])
        words, tensors = ranks.receive(rank)
        assert words == {"hello": rank} and torch.equal(tensors[0], torch.full((3,), rank, dtype=torch.bfloat16))
    (folder / "0.pid").write_text(str(os.getpid()))
    while True:
        time.sleep(3600)


class Circulating(Passthrough):
    """Sends every frame to rank 1 and back; the first bytes tell the two processes."""

    def __init__(self) -> None:
        super().__init__()
        self._group = RankGroup(circulating_rank, 2)
        self._ranks = Ranks(self._group.place, CPU)

    def step(self, frame: Frame | None, values: Snapshot) -> list[Frame]:
        if frame is None:
            return []
        super().step(frame, values)
        self._ranks.send(1, {}, [torch.from_numpy(frame.pixels.copy())])
        words, (pixels,) = self._ranks.receive(1)
        told = pixels.numpy()
        told.reshape(-1)[:16] = np.array([os.getpid(), words["pid"]], np.int64).view(np.uint8)
        return [Frame(told, frame.format, frame.captured_at, frame.index)]


def circulating_rank(place: Place) -> None:
    """Rank 1 of the stream."""
    ranks = Ranks(place, CPU)
    while True:
        _, tensors = ranks.receive(0)
        ranks.send(0, {"pid": os.getpid()}, tensors)


def circulating(settings: Settings, values: Snapshot, *, live: bool) -> Circulating:
    """As engine.pipelines.build.build_stream."""
    return Circulating()
