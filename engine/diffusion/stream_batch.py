"""Stream batch: frames at different denoising steps advance by one step in one network call (Kodaira et al. 2023, section 3.1).

One row a frame in flight. The residual of guided rows is computed directly from the row's reference latent, so nothing recurs
from call to call and nothing can drift. Pure: the network comes in as a function, the next latents go out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.diffusion.guidance import Guidance, asks_negative, weights
from engine.diffusion.prediction import Prediction, denoised, network_output, noise_in
from engine.diffusion.schedule import Schedule

COEFFICIENTS = ("timestep", "a", "b", "c_skip", "c_out", "w_c", "w_r", "a_next", "fresh", "found")


@dataclass(frozen=True, slots=True)
class RowPlan:
    """What one row does in this call, in Python numbers.

    step: position in `schedule`. renoise: a consistency step adds fresh noise after it. euler: the noise found goes on instead.
    """

    schedule: Schedule
    step: int
    guidance: Guidance
    guidance_scale: float
    delta: float
    renoise: bool
    euler: bool

    @property
    def last(self) -> bool:
        """Whether the frame is finished after this call."""
        return self.step == len(self.schedule) - 1

    @property
    def negative(self) -> bool:
        """Whether the row needs the answer to the negative prompt too."""
        return asks_negative(self.guidance, first_step=self.step == 0)

    @property
    def sets_reference(self) -> bool:
        """Whether the negative prompt's guess becomes the row's reference latent (onetime, first step)."""
        return self.guidance == "onetime" and self.step == 0

    def coefficients(self) -> tuple[float, ...]:
        """In the order of COEFFICIENTS. `fresh` and `found` weigh new noise and the noise found in the next latent."""
        now = self.schedule[self.step]
        w_c, w_r = weights(self.guidance, self.guidance_scale, self.delta)
        if self.last:
            a_next, fresh, found = 1.0, 0.0, 0.0
        else:
            following = self.schedule[self.step + 1]
            a_next = following.a
            fresh = following.b if self.renoise and not self.euler else 0.0
            found = following.b if self.euler else 0.0
        return (now.timestep, now.a, now.b, now.c_skip, now.c_out, w_c, w_r, a_next, fresh, found)


@dataclass(frozen=True, slots=True)
class Layout:
    """What of a call is decided by branching: the same layout can run as one captured graph.

    rows: frames in the call. negative: rows asked with the negative prompt too. referring: those that set their reference.
    """

    rows: int
    negative: tuple[int, ...]
    referring: tuple[int, ...]

    @classmethod
    def of(cls, plans: Sequence[RowPlan]) -> Layout:
        """The layout that these plans need."""
        return cls(
            rows=len(plans),
            negative=tuple(i for i, plan in enumerate(plans) if plan.negative),
            referring=tuple(i for i, plan in enumerate(plans) if plan.sets_reference),
        )

    @property
    def source_rows(self) -> tuple[int, ...]:
        """Which frame each network row belongs to: the negative rows first, then one row a frame."""
        return self.negative + tuple(range(self.rows))


def coefficient_table(plans: Sequence[RowPlan], *, beside: tuple[float, ...] = ()) -> Tensor:
    """All coefficients of a call, float32 [len(COEFFICIENTS) + len(beside), R] on the CPU.

    beside: numbers that hold for every row and travel along, a row of the table each.
    """
    return torch.tensor([plan.coefficients() + beside for plan in plans], dtype=torch.float32).T.contiguous()


@dataclass(frozen=True, slots=True)
class Advanced:
    """After one step, each [R, C, h, w]: x0 the clean guess, x_next the next step's latent, reference the latent to keep."""

    x0: Tensor
    x_next: Tensor
    reference: Tensor


def advance(
    x: Tensor,
    reference: Tensor,
    next_noise: Tensor,
    coefficients: Tensor,
    *,
    layout: Layout,
    prediction: Prediction,
    network: Callable[[Tensor, Tensor], Tensor],
) -> Advanced:
    """One denoising step for every row.

    x, reference, next_noise: float32 [R, C, h, w]. coefficients: [len(COEFFICIENTS), R] on x's device.
    network(latents [N, C, h, w], timesteps [N]) -> output [N, C, h, w]; N rows as in layout.source_rows.
    """
    timestep = coefficients[0]
    a, b, c_skip, c_out, w_c, w_r, a_next, fresh, found = (row.view(-1, 1, 1, 1) for row in coefficients[1:])
    asked = len(layout.negative)
    output = network(negative_first(x, layout), negative_first(timestep, layout))
    conditional = output[asked:]

    residual = network_output(x, reference, a, b, prediction)
    for place, row in enumerate(layout.negative):
        answer = output[place : place + 1]
        residual = _with_row(residual, row, answer)
        if row in layout.referring:
            clean = denoised(x[row : row + 1], answer, a[row : row + 1], b[row : row + 1], prediction)
            reference = _with_row(reference, row, clean)

    guided = w_c * conditional + w_r * residual
    x0 = c_out * denoised(x, guided, a, b, prediction) + c_skip * x
    x_next = a_next * x0 + fresh * next_noise + found * noise_in(x, x0, a, b)
    return Advanced(x0=x0, x_next=x_next, reference=reference)


def negative_first(rows: Tensor, layout: Layout) -> Tensor:
    """The rows as the network gets them; by slices, as an index would have to travel to the device."""
    return torch.cat((*(rows[i : i + 1] for i in layout.negative), rows)) if layout.negative else rows


def _with_row(rows: Tensor, index: int, row: Tensor) -> Tensor:
    """A copy of `rows` with one row exchanged; built by joining, so that it can be captured and never writes to its input."""
    return torch.cat((rows[:index], row, rows[index + 1 :]))
