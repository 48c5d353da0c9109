"""What the functions of tensors that every layer calls go through first: nothing, or a compiler that is chosen elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


class Through(Protocol):
    """From a function of tensors to one that computes the same."""

    def __call__(self, function: Function, /) -> Function:
        """The function to call."""
        ...


def as_is(function: Function, /) -> Function:
    """The function as it is written."""
    return function
