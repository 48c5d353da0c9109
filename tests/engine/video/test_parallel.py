"""Who does what among ranks: nothing lost, nothing twice, and evenly by what was measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.video.parallel import Move, Split, moves, owner, rebalanced, split_evenly


def sizes(split: Split) -> list[int]:
    return [last - first for first, last in split]


@given(st.integers(1, 60), st.integers(1, 8))
def test_an_even_split_loses_nothing_and_differs_by_one_at_most(parts: int, ranks: int) -> None:
    if parts < ranks:
        with pytest.raises(ValueError, match="shared out"):
            split_evenly(parts, ranks)
        return
    split = split_evenly(parts, ranks)
    assert [part for first, last in split for part in range(first, last)] == list(range(parts))
    assert max(sizes(split)) - min(sizes(split)) <= 1


def test_the_published_formula_worked_by_hand() -> None:
    """30 blocks of 2 ms on two ranks, the first with 20 ms of encoder beside them: (40 - 50) / 2 = 5 blocks go over."""
    assert rebalanced(((0, 15), (15, 30)), (0.030, 0.030), (0.050, 0.030)) == ((0, 10), (10, 30))


def test_a_rank_that_has_nothing_but_other_work_keeps_one_block() -> None:
    assert rebalanced(((0, 2), (2, 4)), (0.002, 0.002), (1.0, 0.002)) == ((0, 1), (1, 4))


def test_a_split_that_was_not_measured_stays() -> None:
    assert rebalanced(((0, 2), (2, 4)), (0.0, 0.0), (0.0, 0.0)) == ((0, 2), (2, 4))


COUNTS = st.lists(st.integers(1, 12), min_size=1, max_size=6)
SECONDS = st.floats(0.0, 0.5)


@given(COUNTS, st.data())
def test_rebalancing_keeps_every_block_and_rank_and_comes_to_rest(counts: list[int], data: st.DataObject) -> None:
    """Blocks alike, each rank's other work constant: the second time nothing is to be gained but the rounding."""
    split = tuple((sum(counts[:rank]), sum(counts[: rank + 1])) for rank in range(len(counts)))
    rest = [data.draw(SECONDS) for _ in counts]
    for _ in range(3):
        before = split
        blocks = [0.01 * size for size in sizes(split)]
        totals = [own + more for own, more in zip(blocks, rest, strict=True)]
        split = rebalanced(split, blocks, totals)
        assert [part for first, last in split for part in range(first, last)] == list(range(sum(counts)))
        assert min(sizes(split)) >= 1
    slow = [max(0.01 * size + more for size, more in zip(sizes(each), rest, strict=True)) for each in (before, split)]
    assert slow[1] <= slow[0] + 0.01 + 1e-9


def test_what_balances_in_whole_blocks_is_found_at_once() -> None:
    split = rebalanced(((0, 8), (8, 16), (16, 24)), (0.08, 0.08, 0.08), (0.12, 0.08, 0.10))
    assert sizes(split) == [6, 10, 8]
    totals = [0.01 * size + more for size, more in zip(sizes(split), (0.04, 0.0, 0.02), strict=True)]
    assert max(totals) - min(totals) < 1e-9


def test_moves_are_the_blocks_that_change_hands() -> None:
    assert moves(((0, 2), (2, 4), (4, 6)), ((0, 1), (1, 5), (5, 6))) == (Move(1, 0, 1), Move(4, 2, 1))
    assert moves(((0, 3),), ((0, 3),)) == ()
    with pytest.raises(ValueError, match="same"):
        moves(((0, 3),), ((0, 4),))


@given(COUNTS, COUNTS)
def test_after_the_moves_every_block_is_where_the_new_split_says(counts: list[int], others: list[int]) -> None:
    ranks = min(len(counts), len(others))
    blocks = max(sum(counts), ranks)
    before, after = split_evenly(blocks, ranks), rebalanced(split_evenly(blocks, ranks), [0.1] * ranks, [0.1 * n for n in others[:ranks]])
    place = {block: owner(before, block) for block in range(blocks)}
    for move in moves(before, after):
        assert place[move.block] == move.source
        place[move.block] = move.target
    assert place == {block: owner(after, block) for block in range(blocks)}
    with pytest.raises(ValueError, match="not among"):
        owner(after, blocks)
