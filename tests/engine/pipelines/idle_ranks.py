"""Ranks that only wait, for tests that end one of them: importable, as `spawn` needs it, and quickly imported."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch

from engine.gpu.ranks import Place, Ranks
from engine.pipelines.rank_group import RankGroup

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
