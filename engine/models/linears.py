"""Which linear layers of a video transformer run in 8 bits, and why they cannot where they cannot. The layer is float8_linear.py's."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from engine.models.loading_errors import first_words, is_out_of_memory

LEAST_CAPABILITY = (8, 9)
"""Of CUDA devices that multiply 8 bit floats: Ada, Hopper and newer."""
MULTIPLE = 16
"""Both sides of a matrix are multiples of it, or the device cannot multiply it in 8 bits."""
_OF_A_BLOCK = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "attn2.to_q", "attn2.to_out.0", "ffn.net.0.proj", "ffn.net.2")
"""Those that every token goes through at every call. Keys and values of the prompt are computed once a prompt: nothing to gain."""


def obstacle(device: torch.device, dtype: torch.dtype) -> str:
    """Why linears cannot run in 8 bits, and what to do about it; empty if they can."""
    need = "fp8 linears need an NVIDIA GPU of compute capability 8.9 or newer (Ada, Hopper, Blackwell)"
    if device.type != "cuda":
        return f"{need}, and this run is on {device.type}"
    capability = torch.cuda.get_device_capability(device)
    if capability < LEAST_CAPABILITY:
        return f"{need}, and {torch.cuda.get_device_name(device)} has {capability[0]}.{capability[1]}"
    if dtype != torch.bfloat16:
        return f"fp8 linears go with bfloat16 alone, not with {str(dtype).removeprefix('torch.')}: take --dtype bfloat16"
    if find_spec("torchao") is None:
        return 'fp8 linears need torchao, which is not installed: python -m pip install -e ".[fp8]"'
    return _failure(device)


def _failure(device: torch.device) -> str:
    """What a first small product in 8 bits dies of; empty if it lives."""
    try:
        from engine.models.float8_linear import Float8Linear

        with torch.inference_mode():
            Float8Linear(nn.Linear(MULTIPLE, MULTIPLE, device=device, dtype=torch.bfloat16))(
                torch.ones((1, MULTIPLE, MULTIPLE), device=device, dtype=torch.bfloat16)
            ).sum().item()
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return f"fp8 linears do not run here ({first_words(error)}): try another torchao or torch"
    return ""


def chosen_linears(transformer: Any) -> dict[str, nn.Linear]:
    """The linears of a WanTransformer3DModel that can run in 8 bits and gain by it, by name."""
    found = {}
    for number, block in enumerate(transformer.blocks):
        for name in _OF_A_BLOCK:
            linear = block.get_submodule(name)
            if isinstance(linear, nn.Linear) and linear.in_features % MULTIPLE == linear.out_features % MULTIPLE == 0:
                found[f"blocks.{number}.{name}"] = linear
    return found


def to_float8(transformer: Any) -> None:
    """Have the chosen linears run in 8 bits from now on; a second time it changes nothing."""
    from engine.models.float8_linear import Float8Linear

    for name in list(chosen_linears(transformer)):  # one by one, so that no more than one weight is held twice
        transformer.set_submodule(name, Float8Linear(transformer.get_submodule(name)))


def are_float8(transformer: Any) -> bool:
    """Whether a transformer's linears run in 8 bits."""
    return any(type(module).__name__ == "Float8Linear" for module in transformer.blocks.modules())


def shared_input(x: Tensor, *linears: nn.Module) -> Tensor:
    """x as these linears take it: quantised once for all of them if they run in 8 bits."""
    if all(isinstance(linear, nn.Linear) for linear in linears):
        return x
    from engine.models.float8_linear import Float8Linear, quantised

    return quantised(x) if all(isinstance(linear, Float8Linear) for linear in linears) else x
