"""A training step recorded once as a CUDA graph and played again: small networks otherwise wait for Python to name their kernels."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

WARM_UP = 3  # steps before the recording: convolutions are tuned and the optimizer's memory is made in them

Step = Callable[..., dict[str, Tensor]]


class Captured:
    """`step(*tensors)` -> named tensors; the same shapes at every call. On a CPU it is the step itself.

    generator: the one from which the step draws. On a GPU what the step gives is overwritten by the next call. Every call, the first
    ones too, is one true step.
    """

    def __init__(self, step: Step, *, generator: torch.Generator) -> None:
        self._step, self._generator = step, generator
        self._graph: torch.cuda.CUDAGraph | None = None
        self._taken: tuple[Tensor, ...] = ()
        self._found: dict[str, Tensor] = {}
        self._calls = 0

    def __call__(self, *tensors: Tensor) -> dict[str, Tensor]:
        if tensors[0].device.type != "cuda":
            return self._step(*tensors)
        self._calls += 1
        if self._calls <= WARM_UP:
            return self._aside(tensors)
        if self._graph is None:
            self._record(tensors)
        for place, tensor in zip(self._taken, tensors, strict=True):
            place.copy_(tensor)
        assert self._graph is not None
        self._graph.replay()
        return self._found

    def _aside(self, tensors: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """One step on a stream of its own, as recording asks of the steps before it."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            found = self._step(*tensors)
        torch.cuda.current_stream().wait_stream(side)
        return found

    def _record(self, tensors: tuple[Tensor, ...]) -> None:
        self._taken = tuple(tensor.clone() for tensor in tensors)
        self._graph = torch.cuda.CUDAGraph()
        self._graph.register_generator_state(self._generator)
        with torch.cuda.graph(self._graph):
            self._found = self._step(*self._taken)


def adam(groups: Any, *, rate: float, betas: tuple[float, float], decay: float, device: torch.device) -> torch.optim.AdamW:
    """AdamW that can be part of a recorded step on a GPU; there its learning rate is a number on the device."""
    on_gpu = device.type == "cuda"
    return torch.optim.AdamW(
        groups, lr=torch.tensor(rate, device=device) if on_gpu else rate, betas=betas, weight_decay=decay, fused=True, capturable=on_gpu
    )


def set_rate(optimizer: torch.optim.AdamW, rate: float) -> None:
    """The learning rate of every group, times the group's own `share` where it has one."""
    for group in optimizer.param_groups:
        wanted = rate * group.get("share", 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(wanted)
        else:
            group["lr"] = wanted
