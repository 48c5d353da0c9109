"""The quickest precision that a device computes in: bfloat16, but float32 on a CPU without AVX-512 BF16, most of which would imitate it."""

import torch

from engine.gpu.devices import cpu_has_bfloat16


def quick_dtype(device: torch.device) -> torch.dtype:
    """The precision in which networks run that are trained or measured on `device`."""
    return torch.bfloat16 if device.type != "cpu" or cpu_has_bfloat16() else torch.float32


def quickly(device: torch.device) -> torch.autocast:
    """A context in which networks on `device` compute in `quick_dtype`; weights and sums stay in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=quick_dtype(device) == torch.bfloat16)
