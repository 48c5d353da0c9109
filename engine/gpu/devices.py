"""Which device and precision a run uses, and how many threads on a CPU."""

from __future__ import annotations

import os

import torch

from engine.settings import Settings, SettingsError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(settings: Settings) -> torch.device:
    """The device asked for, or the best there is: CUDA, else MPS, else the CPU. SettingsError if it is not there."""
    if settings.device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(settings.device)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise SettingsError("device cuda was asked for, but torch finds no CUDA GPU; use --device auto or a torch with CUDA")
        if (device.index or 0) >= torch.cuda.device_count():
            raise SettingsError(f"there is no {settings.device}; torch finds {torch.cuda.device_count()} CUDA device(s)")
        return torch.device("cuda", device.index or 0)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise SettingsError("device mps was asked for, but torch finds no Apple GPU; use --device auto")
    return device


def choose_dtype(settings: Settings, device: torch.device) -> torch.dtype:
    """The precision asked for, or float16 on GPUs and bfloat16 on CPUs that have instructions for it, else float32."""
    if settings.dtype != "auto":
        return DTYPES[settings.dtype]
    if device.type in ("cuda", "mps"):
        return torch.float16
    return torch.bfloat16 if cpu_has_bfloat16() else torch.float32


def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 matrices in hardware (AVX-512 BF16, AMX)."""
    capable = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(capable is not None and capable())


def set_threads(settings: Settings) -> int:
    """Give torch its CPU threads: those asked for, else one a processor this process may use, shared among the ranks."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = settings.threads or max(1, usable // settings.ranks)
    torch.set_num_threads(threads)
    return threads


def device_text(device: torch.device) -> str:
    """The device in words, for people."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)
