"""Where latent frames stand in time: the rotary embedding without a table, and the position policies.

Wan rotates a head's channels in three groups: time, height, width (Su et al. 2021, applied per axis). Height and width of a token
never change, its place in time does when a window moves. So keys may be kept turned by space alone and be turned by time when
attention looks at them, which is the same product.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from engine.video.through import Through, as_is

THETA = 10_000.0
EMPTY = float("inf")
"""What a slot that holds nothing says instead of its frame."""


def exact(device: torch.device) -> torch.dtype:
    """The dtype of positions and angles: float64, except where the device has none."""
    return torch.float32 if device.type == "mps" else torch.float64


def axis_sizes(head_dim: int) -> tuple[int, int, int]:
    """(time, height, width) channels of a head: height and width get 2 floor(D / 6) each, time the rest."""
    side = 2 * (head_dim // 6)
    return head_dim - 2 * side, side, side


def angles(positions: Tensor, size: int) -> Tensor:
    """Angles [..., size / 2] in radians of positions [...]: p * theta^(-2 i / size). Any position; there is no table to run out of."""
    dtype = exact(positions.device)
    exponents = torch.arange(0, size, 2, dtype=dtype, device=positions.device) / size
    return positions.to(dtype)[..., None] * (1.0 / THETA**exponents)


def turns_of(radians: Tensor) -> Tensor:
    """What `turned` takes for angles [..., n]: the cosines, each twice, and the sines as (-sin, sin), float32 [2, ..., 2 n]."""
    cos, sin = radians.cos().float(), radians.sin().float()
    return torch.stack((torch.stack((cos, cos), -1), torch.stack((-sin, sin), -1))).flatten(-2)


def turned(x: Tensor, turns: Tensor) -> Tensor:
    """The neighbouring pairs of the last dimension of x [..., 2 n] turned by `turns`, computed in float32."""
    return torch.addcmul(x * turns[0], _swapped(x), turns[1]).to(x.dtype)


def turned_first(x: Tensor, turns: Tensor) -> Tensor:
    """A copy of x [..., D] whose first channels are turned, as many as `turns` has. Not for gradients."""
    size = turns.shape[-1]
    copy, first = x.clone(memory_format=torch.contiguous_format), x[..., :size]
    torch.addcmul(first * turns[0], _swapped(first), turns[1], out=copy[..., :size])
    return copy


def _swapped(x: Tensor) -> Tensor:
    """Each two neighbours of the last dimension in each other's place."""
    swapped: Tensor = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return swapped


class Rope:
    """The rotary embedding of one latent size: height x width tokens a frame, heads of `head_dim` channels.

    through: what the turning goes through.
    """

    def __init__(self, head_dim: int, *, height: int, width: int, device: torch.device, through: Through = as_is) -> None:
        self._turned, self._turned_first = through(turned), through(turned_first)
        self.time_size, row_size, column_size = axis_sizes(head_dim)
        rows = angles(torch.arange(height, device=device), row_size)[:, None].expand(-1, width, -1)
        columns = angles(torch.arange(width, device=device), column_size)[None].expand(height, -1, -1)
        still = rows.new_zeros((height, width, self.time_size // 2))
        self._space = turns_of(torch.cat((still, rows, columns), dim=-1).flatten(0, 1)[None, None, :, None])
        self._frequencies = angles(torch.ones((), device=device), self.time_size)

    def turns(self, places: Tensor) -> Tensor:
        """The turns [2, ..., n] of places in time [...], for the n channels of time."""
        return turns_of(places.to(self._frequencies.dtype)[..., None] * self._frequencies)

    def with_space(self, turns: Tensor) -> Tensor:
        """From turns in time [2, B, F, n] to those of all channels of T tokens, [2, B, F, T, 1, D]."""
        space = self._space[..., self.time_size :].expand(-1, *turns.shape[1:3], -1, -1, -1)
        return torch.cat((turns[:, :, :, None, None].expand(*space.shape[:-1], -1), space), dim=-1)

    def in_space(self, x: Tensor) -> Tensor:
        """Turn x [B, F, T, H, D] by the places of its T tokens; the channels of time stay."""
        return self._turned(x, self._space)

    def in_both(self, x: Tensor, turns: Tensor) -> Tensor:
        """Turn x [B, F, T, H, D] by space and time at once, as `with_space` tells."""
        return self._turned(x, turns)

    def in_time(self, x: Tensor, turns: Tensor) -> Tensor:
        """Turn x [B, F, T, H, D] in time, [2, B, F, n]; the channels of space stay."""
        return self._turned_first(x, turns[:, :, :, None, None])


class PositionPolicy(Protocol):
    """How a frame's count becomes the place in time at which attention sees it.

    baked: keys are kept turned by time as they were written; otherwise they are turned when attention looks.
    numbered: a frame's place is its number, whatever else is in the cache.
    """

    baked: bool
    numbered: bool

    def advance(self, frames: int) -> int:
        """The number of the first of the next `frames` latent frames."""
        ...

    def places(self, written: Tensor) -> Tensor:
        """From the numbers with which slots [B, S] were written (EMPTY: nothing there) to their places in time [B, S]."""
        ...

    def renumbered(self, written: Tensor, *, sinks: int, shift: int) -> Tensor:
        """The numbers [..., S] of a row's slots after the count went back by `shift`; the first `sinks` are sink frames."""
        ...

    def reset(self) -> None:
        """Count from 0 again."""
        ...


class AbsolutePositions:
    """A frame stands at its number since the start, p_n = n, for ever: angles come from float64, not from a table of 1024 rows.

    start: the number of the first frame.
    """

    baked = True
    numbered = True

    def __init__(self, *, start: int = 0) -> None:
        self._start = self._next = start

    def advance(self, frames: int) -> int:
        """Counts on."""
        first, self._next = self._next, self._next + frames
        return first

    def places(self, written: Tensor) -> Tensor:
        """The numbers themselves."""
        return written

    def renumbered(self, written: Tensor, *, sinks: int, shift: int) -> Tensor:
        """Every frame moves along; only a reset of the whole stream comes here, with empty slots."""
        return written - shift

    def reset(self) -> None:
        """Back to the start."""
        self._next = self._start


class ResetPositions(AbsolutePositions):
    """Absolute until `limit`, then back to `restart`, and so on: the places stay in the range a model was trained at.

    At the jump of r = p - restart the frames of the window move along, p_j <- p_j - r, and a sink frame j no further than its own
    place, p_j <- max(p_j - r, j): nothing ever stands in the future. Keys are kept without time, so that moving is exact.
    """

    baked = False

    def __init__(self, *, limit: int, restart: int, start: int = 0) -> None:
        if not 0 <= restart < limit:
            raise ValueError(f"positions restart at {restart}, which must lie in 0..{limit - 1}")
        super().__init__(start=start)
        self._limit, self._restart = limit, restart

    def advance(self, frames: int) -> int:
        """Counts on, or jumps back where the limit is reached."""
        if self._next >= self._limit:
            self._next = self._restart
        return super().advance(frames)

    def renumbered(self, written: Tensor, *, sinks: int, shift: int) -> Tensor:
        """The formula of the class."""
        moved = written - shift
        order = torch.arange(sinks, dtype=written.dtype, device=written.device)
        return torch.cat((torch.maximum(moved[..., :sinks], order), moved[..., sinks:]), dim=-1)


class CacheRelativePositions(AbsolutePositions):
    """A frame stands at its rank among the frames in the cache, p_j = #{i: n_i < n_j} (LongLive, Reward Forcing, MemRoPE).

    Places never leave 0..W-1 and do not depend on how long the stream has run. Keys are kept without time.
    """

    baked = False
    numbered = False

    def places(self, written: Tensor) -> Tensor:
        """Ranks; empty slots, which nobody attends to, come last."""
        return (written[..., None, :] < written[..., :, None]).sum(-1).to(written.dtype)
