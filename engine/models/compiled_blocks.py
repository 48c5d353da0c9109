"""The parts of a video model through torch.compile, where it can be had: a handful of small graphs that all blocks share."""

from __future__ import annotations

import shutil
from typing import Any

import torch
from torch import Tensor, nn

from engine.models.loading_errors import first_words, is_out_of_memory
from engine.video.through import Function, Through, as_is

VARIANTS = 24
"""Of one function that are compiled, for rows, frames and windows of several sizes; further ones run as they are."""


def obstacle(device: torch.device) -> str:
    """Why nothing can be compiled on this device, and what to do about it; empty if it can."""
    if device.type == "mps":
        return "torch.compile is not used on Apple GPUs"
    if device.type == "cpu" and not any(shutil.which(name) for name in ("g++", "clang++", "cl")):
        return "torch.compile needs a C++ compiler on a CPU, and none was found"
    try:
        with torch.inference_mode():
            torch.compile(_sample)(torch.ones(64, device=device))
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return f"torch.compile does not run here, which needs Triton and a C compiler on a GPU ({first_words(error)})"
    return ""


def _sample(x: Tensor) -> Tensor:
    return x.sin() + 1.0


def compile_blocks(transformer: Any) -> None:
    """Have the blocks of a WanTransformer3DModel compiled; the work is done at the first call of each set of shapes.

    What cannot be compiled after all goes on as it is. Attention is not part of it but for what `compiler_of` is given.
    """
    _go_on_where_it_fails()
    for block in transformer.blocks:
        block.compile()


def compile_norms(vae: Any) -> None:
    """The same for the norms of an AutoencoderKLWan, each of them a dozen passes over large tensors as it is written; of another
    autoencoder nothing."""
    _go_on_where_it_fails()
    for module in vae.modules():
        if type(module).__name__ == "WanRMS_norm":
            module.compile()


def _go_on_where_it_fails() -> None:
    torch._dynamo.config.suppress_errors = True
    torch._dynamo.config.recompile_limit = VARIANTS


def are_compiled(transformer: Any) -> bool:
    """Whether a transformer's blocks are compiled."""
    return any(isinstance(block, nn.Module) and block._compiled_call_impl is not None for block in transformer.blocks)


def compiler_of(transformer: Any) -> Through:
    """What functions that these blocks call go through."""
    return _compiled if are_compiled(transformer) else as_is


def _compiled(function: Function, /) -> Function:
    return torch.compile(function)  # type: ignore[return-value]
