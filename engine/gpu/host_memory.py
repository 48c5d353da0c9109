"""The C library's memory on the host. Linux with glibc only; elsewhere nothing is done."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""From <malloc.h>."""
LARGEST_KEPT = 32 * 2**20
"""The largest threshold that glibc takes."""
TOP_PAD = 256 * 2**20


def keep_freed_memory() -> bool:
    """Have freed memory kept for the next frame instead of given back to the system; whether that could be arranged.

    A network on the CPU takes and frees megabytes in every layer; given back, each comes as new pages, which the system has to
    clear one by one: about a sixth of the time of a 512x512 frame. The process keeps what it needed at its busiest.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return False
    wishes = ((M_MMAP_THRESHOLD, LARGEST_KEPT), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, TOP_PAD))
    return all([mallopt(name, value) == 1 for name, value in wishes])
