"""Who does what among several ranks: which blocks of the transformer, which denoising steps, and when a rank has too much to do.

Pure planning: numbers in, numbers out. Ranks are counted from 0 along the line that a call takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Split = tuple[tuple[int, int], ...]
"""[first, last) for every rank, one after the other without a gap."""


@dataclass(frozen=True, slots=True)
class Move:
    """One block of the transformer that changes its rank, its keys and values with it."""

    block: int
    source: int
    target: int


def split_evenly(parts: int, ranks: int) -> Split:
    """`parts` blocks or steps over `ranks`, as evenly as it goes, the first ranks one more. ValueError if a rank would get none."""
    if ranks < 1 or parts < ranks:
        raise ValueError(f"{parts} cannot be shared out to {ranks} ranks")
    least, more = divmod(parts, ranks)
    return _contiguous([least + (rank < more) for rank in range(ranks)])


def rebalanced(split: Split, block_seconds: Sequence[float], total_seconds: Sequence[float]) -> Split:
    """The split that makes every rank take as long, as far as whole blocks can (StreamDiffusionV2, Feng et al. 2025, block scheduler).

    block_seconds: a rank's time in its blocks d_r for one call; total_seconds: with all else that it does, T_r (encode, decode). With
    b = sum(d) / blocks, rank r gets n_r + (mean(T) - T_r) / b blocks, at least one; rounded so that none is lost, the largest
    remainders up.
    """
    blocks = sum(last - first for first, last in split)
    per_block = sum(block_seconds) / blocks
    if per_block <= 0.0:
        return split
    mean = sum(total_seconds) / len(split)
    wished = [last - first + (mean - total) / per_block for (first, last), total in zip(split, total_seconds, strict=True)]
    return _contiguous(_whole(wished, blocks))


def _whole(wished: Sequence[float], total: int) -> list[int]:
    """Whole numbers of at least 1 that add up to `total`, near the wishes."""
    counts = [max(1, int(wish // 1)) for wish in wished]
    while sum(counts) < total:
        counts[max(range(len(counts)), key=lambda rank: wished[rank] - counts[rank])] += 1
    while sum(counts) > total:
        able = [rank for rank in range(len(counts)) if counts[rank] > 1]
        counts[min(able, key=lambda rank: wished[rank] - counts[rank])] -= 1
    return counts


def moves(before: Split, after: Split) -> tuple[Move, ...]:
    """The blocks that change their rank, in order. ValueError if the splits are not of the same blocks and ranks."""
    if len(before) != len(after) or before[-1][1] != after[-1][1]:
        raise ValueError(f"{before} and {after} do not share out the same")
    owners = [[rank for rank, (first, last) in enumerate(split) for _ in range(first, last)] for split in (before, after)]
    return tuple(Move(block, *owner) for block, owner in enumerate(zip(*owners, strict=True)) if owner[0] != owner[1])


def owner(split: Split, part: int) -> int:
    """The rank of a block or step. ValueError if there is no such part."""
    for rank, (first, last) in enumerate(split):
        if first <= part < last:
            return rank
    raise ValueError(f"{part} is not among {split}")


def _contiguous(counts: Sequence[int]) -> Split:
    ends = [sum(counts[: rank + 1]) for rank in range(len(counts))]
    return tuple((end - count, end) for end, count in zip(ends, counts, strict=True))
