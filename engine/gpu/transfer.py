"""Pictures between host and device: pinned buffers and copy streams on CUDA, plain copies elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.frames import Pixels


@dataclass(slots=True)
class Download:
    """Pixels on their way to the host. `pixels` waits for them if they have not arrived."""

    _host: Tensor
    _arrived: Any

    def pixels(self) -> Pixels:
        """uint8 [B, H, W, C], the caller's own."""
        if self._arrived is None:
            return self._host.numpy()
        self._arrived.synchronize()
        # The pinned buffer goes back to torch's pool and will be written again; the caller gets his own memory.
        return self._host.numpy().copy()


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

    def download(self, pictures: Tensor) -> Download:
        """uint8 [B, H, W, C] from the device; returns at once."""
        if self._out is None:
            return Download(_host=pictures.cpu(), _arrived=None)
        self._out.wait_stream(torch.cuda.current_stream(self._device))
        host = torch.empty(pictures.shape, dtype=torch.uint8, pin_memory=True)
        with torch.cuda.stream(self._out):
            host.copy_(pictures, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record(self._out)
        pictures.record_stream(self._out)
        return Download(_host=host, _arrived=arrived)
