"""The contract between a network and what runs it, and torch as the plainest of its kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}
"""Short names, for people."""

Shapes = tuple[tuple[int, ...], ...]
"""The shapes of all inputs of a network, in their order."""
Key = tuple[str, Shapes]
"""A part of the model at the shapes of its inputs."""


class CannotRun(RuntimeError):
    """A runtime cannot run a network, or not as torch does; the text is half a sentence for people."""


class Runtime(Protocol):
    """Runs the networks of one stream. A network is a module whose forward takes tensors and gives one tensor."""

    @property
    def name(self) -> str:
        """What runs at present and in which precision, for people."""
        ...

    def __call__(self, part: str, network: nn.Module, tensors: Sequence[Tensor], options: Mapping[str, Any] = NO_OPTIONS) -> Tensor:
        """network(*tensors, **options) by whatever means.

        part: what the network is to the stream, in one word; always the same network under the same word. options: arguments
        that are no tensors. Never raises but for what torch itself would raise.
        """
        ...

    def settle(self) -> None:
        """Wait until all that is being prepared beside is ready; not for the frame path."""
        ...


class TorchRuntime:
    """Calls the modules as they are, eager or compiled by torch."""

    def __init__(self, name: str = "torch") -> None:
        self.name = name

    def __call__(self, part: str, network: nn.Module, tensors: Sequence[Tensor], options: Mapping[str, Any] = NO_OPTIONS) -> Tensor:
        """The network's own answer."""
        answer: Tensor = network(*tensors, **options)
        return answer

    def settle(self) -> None:
        """There is nothing to wait for."""
