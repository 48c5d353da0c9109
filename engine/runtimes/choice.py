"""Which runtime a stream gets: what was asked for, or with `auto` what is installed and safe."""

from __future__ import annotations

import logging
from importlib.util import find_spec

import torch

from engine.runtimes.openvino_runtime import OpenVinoRuntime
from engine.runtimes.runtime import PRECISIONS, Runtime, TorchRuntime
from engine.settings import Settings, SettingsError

log = logging.getLogger(__name__)

LARGEST_AUTO = 200_000_000
"""Parameters of a network that `auto` still converts: larger ones take minutes and their memory several times over."""


def choose_runtime(settings: Settings, *, device: torch.device, dtype: torch.dtype, parameters: int, live: bool) -> Runtime:
    """The runtime for a run. SettingsError if openvino was asked for and cannot be loaded.

    parameters: of the largest network. With `auto`, OpenVINO is only taken for a live run on a CPU, which starts in torch and
    compares the two on the way: which one is faster depends on the moment, and what is not live must come out the same every time.
    """
    plain = TorchRuntime(torch_name(settings, device, dtype))
    asked, auto = settings.accelerate == "openvino", settings.accelerate == "auto"
    if asked and device.type != "cpu":
        log.warning("OpenVINO is for the CPU here, and this run is on %s: torch runs the model", device.type)
    if device.type != "cpu" or not (asked or (auto and live and parameters <= LARGEST_AUTO and openvino_is_installed())):
        return plain
    if asked:
        _check()
    return OpenVinoRuntime(torch_name=plain.name, threads=torch.get_num_threads(), wait=not live, compare=auto)


def _check() -> None:
    """Whoever asks for OpenVINO by name hears at the start that it is not there; with `auto` nobody waits for its import."""
    try:
        from engine.runtimes.openvino_network import check_openvino

        check_openvino()
    except (ImportError, OSError, RuntimeError) as error:
        why = f"cannot be loaded ({error})" if openvino_is_installed() else "is not installed"
        raise SettingsError(f"openvino {why}; pip install openvino, or take --accelerate none") from error


def openvino_is_installed() -> bool:
    """Whether there is an openvino to import; it is not imported."""
    return find_spec("openvino") is not None


def torch_name(settings: Settings, device: torch.device, dtype: torch.dtype) -> str:
    """torch as people read it: how it runs, and in which precision."""
    how = "torch.compile" if settings.accelerate == "compile" else "torch"
    graphs = ", CUDA graphs" if settings.cuda_graph and device.type == "cuda" else ""
    return f"{how} {PRECISIONS[dtype]}{graphs}"
