"""Stage timers: how long encode, denoise and decode take, without ever waiting for the device to find out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import torch

SMOOTHING = 0.1
"""Share of the newest measurement in the running mean."""


class StageTimer:
    """Running means in milliseconds, by stage name.

    On CUDA a stage is two events, read when a later call finds them passed; elsewhere the wall clock.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._mean: dict[str, float] = {}
        self._newest: dict[str, float] = {}
        self._waiting: list[tuple[str, Any, Any]] = []

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside. Does nothing while a CUDA graph is captured: events in a graph cannot be read."""
        if not self._cuda:
            start = time.perf_counter()
            yield
            self._add(name, (time.perf_counter() - start) * 1000.0)
        elif torch.cuda.is_current_stream_capturing():
            yield
        else:
            self._read_passed()
            start_event = torch.cuda.Event(enable_timing=True)
            end_event = torch.cuda.Event(enable_timing=True)
            start_event.record()
            yield
            end_event.record()
            self._waiting.append((name, start_event, end_event))

    def milliseconds(self) -> dict[str, float]:
        """The running means."""
        if self._cuda:
            self._read_passed()
        return dict(self._mean)

    def newest(self) -> dict[str, float]:
        """The last measurement of each stage; on CUDA of a call that is over already."""
        if self._cuda:
            self._read_passed()
        return dict(self._newest)

    def _read_passed(self) -> None:
        while self._waiting and self._waiting[0][2].query():
            name, start, end = self._waiting.pop(0)
            self._add(name, start.elapsed_time(end))

    def _add(self, name: str, milliseconds: float) -> None:
        self._newest[name] = milliseconds
        before = self._mean.get(name, milliseconds)
        self._mean[name] = before + SMOOTHING * (milliseconds - before)
