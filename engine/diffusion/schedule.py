"""Which noise levels one frame passes through: strength and step count, or explicit timesteps, to a schedule.

A noise level is a position p in 0..1: 0 the clean picture, 1 pure noise. A schedule belongs to a frame and stays with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

TRAINED_TIMESTEPS = 1000

SIGMA_DATA = 0.5
"""Standard deviation of the data in the boundary condition of consistency models (Luo et al. 2023, eq. 7)."""
TIMESTEP_SCALING = 10.0


@dataclass(frozen=True, slots=True)
class Step:
    """One denoising step: the network is told `timestep` at a latent x = a x0 + b eps.

    c_skip, c_out: the answer is c_out * denoised + c_skip * x (1 and 0 where there is no boundary condition).
    """

    timestep: float
    a: float
    b: float
    c_skip: float = 0.0
    c_out: float = 1.0


Schedule = tuple[Step, ...]


class NoiseCurve(Protocol):
    """How a model family mixes picture and noise at a position p."""

    def at(self, position: float) -> Step:
        """The step at `position` in 0..1; a = 1 and b = 0 at 0."""
        ...


@dataclass(frozen=True, slots=True)
class VariancePreserving:
    """Stable Diffusion's curve: a = sqrt(abar_t), b = sqrt(1 - abar_t) at the integer timestep t = 1000 p - 1.

    With that, p = 1, 3/4, 1/2, 1/4 are the timesteps 999, 749, 499, 249 that the turbo models were distilled for.
    boundary: apply the consistency models' boundary condition.
    """

    alphas_cumprod: tuple[float, ...]
    boundary: bool = False

    def at(self, position: float) -> Step:
        """Nearest integer timestep."""
        if position <= 0.0:
            return Step(timestep=0.0, a=1.0, b=0.0)
        count = len(self.alphas_cumprod)
        t = min(max(round(count * position) - 1, 0), count - 1)
        a, b = math.sqrt(self.alphas_cumprod[t]), math.sqrt(1.0 - self.alphas_cumprod[t])
        c_skip, c_out = consistency_boundary(t) if self.boundary else (0.0, 1.0)
        return Step(timestep=float(t), a=a, b=b, c_skip=c_skip, c_out=c_out)


@dataclass(frozen=True, slots=True)
class Flow:
    """Rectified flow: a = 1 - sigma, b = sigma, timestep 1000 sigma, sigma shifted as in Esser et al. 2024, eq. 23."""

    shift: float = 1.0

    def at(self, position: float) -> Step:
        """Any position; flow models take fractional timesteps."""
        sigma = self.shift * position / (1.0 + (self.shift - 1.0) * position)
        return Step(timestep=TRAINED_TIMESTEPS * sigma, a=1.0 - sigma, b=sigma)


def consistency_boundary(timestep: float) -> tuple[float, float]:
    """(c_skip, c_out) of a latent consistency model (Luo et al. 2023, section 4.1, with timestep scaling 10)."""
    s = TIMESTEP_SCALING * timestep
    variance = s * s + SIGMA_DATA * SIGMA_DATA
    return SIGMA_DATA * SIGMA_DATA / variance, s / math.sqrt(variance)


def positions_of_strength(strength: float, steps: int) -> tuple[float, ...]:
    """`steps` positions from `strength` evenly down, the last one a step above 0: s, s (n-1)/n, ... s/n."""
    return tuple(strength * (steps - i) / steps for i in range(steps))


def positions_of_timesteps(timesteps: Sequence[int]) -> tuple[float, ...]:
    """Positions of explicit timesteps 0..999, largest first, each once."""
    return tuple((t + 1) / TRAINED_TIMESTEPS for t in sorted(set(timesteps), reverse=True))


def schedule_of(curve: NoiseCurve, *, strength: float, steps: int, step_list: Sequence[int] = ()) -> Schedule:
    """The schedule of a frame that enters now: the explicit timesteps if there are any, else from strength and steps."""
    positions = positions_of_timesteps(step_list) if step_list else positions_of_strength(strength, steps)
    return tuple(curve.at(position) for position in positions)
