"""How large frames may be: always what is certain, and what is possible while there is room."""

from __future__ import annotations

import pytest

from bridge.engine_room import SLOTS, frame_bytes

MIB = 2**20


@pytest.mark.parametrize(
    ("source", "size", "free", "expected"),
    [
        ((512, 512), (512, 512), None, 2048 * 2048 * 4),  # turned up to the largest while running
        (None, (512, 512), None, 3840 * 2160 * 4),  # whatever NDI brings
        ((7680, 4320), (512, 512), None, 7680 * 4320 * 4),
        ((512, 512), (512, 512), 64 * MIB, 4 * MIB),  # a container's usual share
        ((1920, 1080), (512, 512), 64 * MIB, 1920 * 1080 * 4),  # certain, though it will not fit: the engine says so
        (None, (512, 512), 24_000 * MIB, 3840 * 2160 * 4),
    ],
)
def test_room(source: tuple[int, int] | None, size: tuple[int, int], free: int | None, expected: int) -> None:
    assert frame_bytes(source=source, size=size, free=free) == expected


def test_what_is_only_possible_takes_at_most_half_of_what_is_free() -> None:
    for free in (8 * MIB, 64 * MIB, 512 * MIB):
        assert frame_bytes(source=None, size=(64, 64), free=free) * SLOTS <= free // 2
