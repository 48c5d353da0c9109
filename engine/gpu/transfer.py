"""Pictures between host and device: pinned buffers and copy streams on CUDA, plain copies elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.frames import Pixels


@dataclass(slots=True)
class Download:
    """Pictures and a mark each, on their way to the host."""

    _pictures: Tensor
    _marks: Tensor
    _arrived: Any

    @property
    def ready(self) -> bool:
        """Whether they have come."""
        return self._arrived is None or bool(self._arrived.query())

    def pixels(self) -> tuple[Pixels, list[int]]:
        """uint8 [B, H, W, C], the caller's own, and the marks; waits for what has not come."""
        if self._arrived is None:
            return self._pictures.numpy(), self._marks.tolist()
        self._arrived.synchronize()
        # The pinned buffer goes back to torch's pool and will be written again; the caller gets his own memory.
        return self._pictures.numpy().copy(), self._marks.tolist()


class Transfer:
    """Copies for one device. Uploads and downloads run beside the computation on CUDA, ordered by events."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._in: Any = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._out: Any = torch.cuda.Stream(device) if device.type == "cuda" else None

    def upload(self, pixels: Pixels) -> Tensor:
        """uint8 [H, W, C] on the host, valid only now, to [1, H, W, C] on the device."""
        host = torch.empty((1, *pixels.shape), dtype=torch.uint8, pin_memory=self._in is not None)
        host.numpy()[0] = pixels
        if self._in is None:
            return host.to(self._device)
        with torch.cuda.stream(self._in):
            on_device = host.to(self._device, non_blocking=True)
        compute = torch.cuda.current_stream(self._device)
        compute.wait_stream(self._in)
        # Made on one stream and used on another: the allocator must not hand the memory out before the use is over.
        on_device.record_stream(compute)
        return on_device

    def numbers(self, table: Tensor) -> Tensor:
        """A small table on the host, on the device; without waiting."""
        if self._in is None:
            return table.to(self._device)
        return table.pin_memory().to(self._device, non_blocking=True)

    def download(self, pictures: Tensor, marks: Tensor) -> Download:
        """Pictures uint8 [B, H, W, C] and marks uint8 [B] from the device; returns at once."""
        if self._out is None:
            return Download(_pictures=pictures.cpu(), _marks=marks.cpu(), _arrived=None)
        self._out.wait_stream(torch.cuda.current_stream(self._device))
        hosts = [torch.empty(tensor.shape, dtype=torch.uint8, pin_memory=True) for tensor in (pictures, marks)]
        with torch.cuda.stream(self._out):
            for host, tensor in zip(hosts, (pictures, marks), strict=True):
                host.copy_(tensor, non_blocking=True)
                tensor.record_stream(self._out)
            # A waiting thread sleeps: one that spins would take a processor from the bridge.
            arrived = torch.cuda.Event(blocking=True)
            arrived.record(self._out)
        return Download(_pictures=hosts[0], _marks=hosts[1], _arrived=arrived)
