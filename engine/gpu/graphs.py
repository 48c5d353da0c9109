"""A function of tensors as captured CUDA graphs: one graph for each way it branches, static buffers, no work for the host."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]
Function = Callable[[Tensors, Sequence[Tensor]], dict[str, Tensor]]

SEEN_BEFORE_CAPTURE = 3
"""Calls of a key before it is worth a graph: passing states (a ramp, a change of steps) run eagerly."""
KEYS_COUNTED = 1000


@dataclass(slots=True)
class _Captured:
    graph: Any
    inputs: dict[str, Tensor]
    constants: list[Tensor]
    bound: Sequence[Tensor]
    outputs: dict[str, Tensor]


class GraphedCalls:
    """Calls `function(inputs, constants)`; on CUDA replays a captured graph once a key has come often enough.

    inputs are copied into static buffers at each call; constants only when they are other objects than last time.
    Outputs are the caller's own copies. The function must branch on nothing but what the key tells.
    """

    def __init__(self, *, enabled: bool, limit: int = 24) -> None:
        self.enabled = enabled
        self._limit = limit
        self._pool: Any = None
        self._seen: Counter[Hashable] = Counter()
        self._graphs: OrderedDict[Hashable, _Captured] = OrderedDict()

    def __call__(self, key: Hashable, function: Function, inputs: Tensors, constants: Sequence[Tensor]) -> dict[str, Tensor]:
        """The function's outputs, by name."""
        if not self.enabled:
            return function(inputs, constants)
        captured = self._graphs.get(key)
        if captured is None:
            if len(self._seen) > KEYS_COUNTED:
                self._seen.clear()
            self._seen[key] += 1
            if self._seen[key] <= SEEN_BEFORE_CAPTURE:
                return function(inputs, constants)
            captured = self._capture(function, inputs, constants)
            self._graphs[key] = captured
            while len(self._graphs) > self._limit:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(key)
        for name, static in captured.inputs.items():
            static.copy_(inputs[name], non_blocking=True)
        if any(a is not b for a, b in zip(captured.bound, constants, strict=True)):
            for static, constant in zip(captured.constants, constants, strict=True):
                static.copy_(constant, non_blocking=True)
            captured.bound = constants
        captured.graph.replay()
        return {name: tensor.clone() for name, tensor in captured.outputs.items()}

    def _capture(self, function: Function, inputs: Tensors, constants: Sequence[Tensor]) -> _Captured:
        static_inputs = {name: tensor.clone() for name, tensor in inputs.items()}
        static_constants = [tensor.clone() for tensor in constants]
        # Libraries choose their algorithms and allocate work space on first calls, which must not happen inside the capture.
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                function(static_inputs, static_constants)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # One pool of memory for all graphs: they never run at the same time, and results are copied out after each.
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        # Prompts are encoded on another thread, which may allocate meanwhile: only this thread's doings are watched.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            outputs = function(static_inputs, static_constants)
        return _Captured(graph=graph, inputs=static_inputs, constants=static_constants, bound=tuple(constants), outputs=outputs)
