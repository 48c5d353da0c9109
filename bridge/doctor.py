"""Looks whether everything a run needs is on this machine: a line each, and what to do where something is missing."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass

from bridge.engine_room import SLOTS, free_shared_memory
from bridge.opening import preset_folder
from bridge.report import version

LEAST_SHARED_BYTES = 1920 * 1080 * 4 * SLOTS
"""Room for frames of 1920x1080 in both rings."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination. remedy: what to do, empty if it is well."""

    what: str
    found: str
    remedy: str = ""


def examine(*, osc_port: int, web_port: int) -> bool:
    """Print a line for each part; whether all of them are well."""
    print(f"Phosphene {version()}")
    looks: tuple[Callable[[], Finding], ...] = (
        _torch, _device, _libraries, _runtime, _embedded_model, _presets, _ndi, _encoder, _shared_memory,
        lambda: _port("OSC port", socket.SOCK_DGRAM, osc_port, "--osc-port"),
        lambda: _port("web port", socket.SOCK_STREAM, web_port, "--web-port"),
    )  # fmt: skip
    well = True
    for look in looks:
        finding = look()
        well = well and not finding.remedy
        mark = "problem" if finding.remedy else "ok     "
        print(f"{mark}  {finding.what}: {finding.found}" + (f"; {finding.remedy}" if finding.remedy else ""))
    return well


def _torch() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("torch", f"cannot be loaded ({error})", "install it: pip install torch")
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    return Finding("torch", f"{torch.__version__}, {built}")


def _device() -> Finding:
    try:
        import torch
    except (ImportError, OSError):
        return Finding("device", "none without torch", "install torch first")
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return Finding("device", f"cuda, {torch.cuda.get_device_name(0)} with {memory:.0f} GB")
    if torch.backends.mps.is_available():
        return Finding("device", "mps, an Apple GPU")
    if _has_nvidia_gpu():
        remedy = "install a torch with CUDA from pytorch.org, or a driver that is new enough for this one"
        return Finding("device", "there is an NVIDIA GPU, but torch does not see it", remedy)
    return Finding("device", f"cpu, {torch.get_num_threads()} threads: enough for the embedded model")


def _has_nvidia_gpu() -> bool:
    import shutil
    import subprocess

    program = shutil.which("nvidia-smi")
    if program is None:
        return False
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run([program, "-L"], capture_output=True, timeout=10, check=False).stdout.startswith(b"GPU")
    return False


def _libraries() -> Finding:
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as version_of

    found, missing = [], []
    for name in ("diffusers", "transformers", "safetensors"):
        try:
            found.append(f"{name} {version_of(name)}")
        except PackageNotFoundError:
            missing.append(name)
    remedy = f"pip install {' '.join(missing)}" if missing else ""
    return Finding("model libraries", ", ".join(found) or "none", remedy)


def _runtime() -> Finding:
    """What runs the networks on a CPU; OpenVINO is a choice, so its absence is no problem."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as version_of

    try:
        found = f"OpenVINO {version_of('openvino')}: live runs on a CPU change over to it where it is not slower than torch"
    except PackageNotFoundError:
        found = "torch; on a CPU OpenVINO is faster for most models: pip install openvino"
    return Finding("runtime", found)


def _embedded_model() -> Finding:
    import importlib.resources

    folder = importlib.resources.files("engine.models") / "embedded"
    if (folder / "model_index.json").is_file():
        return Finding("embedded model", "present")
    return Finding("embedded model", "its files are missing", "install the package again")


def _presets() -> Finding:
    entries = preset_folder().list()
    broken = [entry for entry in entries if entry.problem]
    if broken:
        return Finding("presets", broken[0].problem, f"mend or remove {broken[0].key}")
    if not entries:
        return Finding("presets", "there are none", "install the package again")
    return Finding("presets", f"{len(entries)} can be used")


def _ndi() -> Finding:
    from bridge.ndi.library import check

    good, text = check()
    if good:
        return Finding("NDI", text)
    found, _, remedy = text.rpartition(": ")
    return Finding("NDI", found, remedy)


def _encoder() -> Finding:
    try:
        from bridge.sinks.recorder import best_encoder

        return Finding("recording", f"encoder {best_encoder()}")
    except (ImportError, OSError, RuntimeError) as error:
        return Finding("recording", str(error), "install it again: pip install --force-reinstall av")


def _shared_memory() -> Finding:
    free = free_shared_memory()
    if free is None:
        return Finding("shared memory", "no limit of its own on this system")
    found = f"{free / 2**20:.0f} MiB free"
    if free < LEAST_SHARED_BYTES:
        remedy = f"frames of 1920x1080 need {LEAST_SHARED_BYTES / 2**20:.0f} MiB: give it more (docker: --shm-size=1g)"
        return Finding("shared memory", found, remedy)
    return Finding("shared memory", found)


def _port(what: str, kind: socket.SocketKind, port: int, option: str) -> Finding:
    with socket.socket(socket.AF_INET, kind) as tried:
        if kind is socket.SOCK_STREAM and not hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that have just ended do not count
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return Finding(what, f"{port} is in use by another program", f"close it, or run with another {option}")
    return Finding(what, f"{port} is free")
