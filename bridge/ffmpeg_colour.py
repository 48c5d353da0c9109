"""FFmpeg's numbers for colour matrices, ranges and scaling flags, as PyAV takes and gives them."""

from __future__ import annotations

BT709, BT601 = 1, 5
UNSPECIFIED_MATRICES = (0, 2)
LIMITED, FULL = 1, 2
BILINEAR, FULL_CHROMA_INTERPOLATION, ACCURATE_ROUNDING = 0x2, 0x2000, 0x40000
EXACT = BILINEAR | FULL_CHROMA_INTERPOLATION | ACCURATE_ROUNDING
"""Without the last two, YUV to RGB comes out about one level too dark, and darker again at each further pass."""
