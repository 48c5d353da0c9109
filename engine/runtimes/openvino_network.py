"""torch networks in OpenVINO: traced once with free shapes, tried in another process, compiled for each set of shapes."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from engine.runtimes.runtime import PRECISIONS, CannotRun, Key, Shapes

TRIAL_SECONDS = 900.0
"""For all parts of a set; a machine that is busy with the picture leaves little to what runs beside."""
DEVIATION = {"f32": 1e-3, "f16": 0.02, "bf16": 0.1}
"""How far the answer may lie from torch's, root mean square relative to the answer's own, by the coarser precision of the two."""

# What a trace holds fixed are branches that a UNet takes by its settings, not by its inputs.
warnings.filterwarnings("ignore", category=TracerWarning)


def check_openvino() -> None:
    """RuntimeError unless OpenVINO finds a CPU that it knows."""
    openvino.Core().get_property("CPU", "FULL_DEVICE_NAME")


def precision_of(network: nn.Module) -> str:
    """`bf16` for a bfloat16 network on a CPU that has instructions for it, else `f32`."""
    capable = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bf16" if capable and PRECISIONS.get(next(network.parameters()).dtype) == "bf16" else "f32"


@torch.no_grad()
def trace(network: nn.Module, shapes: Shapes) -> Any:
    """The graph of a network that belongs to the caller, in float32.

    By the front end itself: openvino.convert_model would report its use over the network and set up the program's logging anew.
    """
    front_end = FrontEndManager().load_by_framework("pytorch")
    traced = TorchScriptPythonDecoder(network.float(), example_input=tuple(_examples(shapes, seed=0)))
    return front_end.convert(front_end.load(traced))


class CompiledNetwork:
    """A network at fixed shapes. Tensors of any floating type in, float32 out."""

    def __init__(self, compiled: Any, precision: str) -> None:
        self._request = compiled.create_infer_request()
        self.precision = precision

    def __call__(self, tensors: Sequence[Tensor]) -> Tensor:
        """The answer, in memory of its own: frames in flight keep it beyond the next call."""
        return torch.from_numpy(self._request.infer([_array(tensor) for tensor in tensors], share_inputs=True)[0])


Outcome = CompiledNetwork | CannotRun


class OpenVinoCompiler:
    """Turns the parts of a model into compiled networks. Slow, and not for the frame path: everything here blocks for seconds.

    trace_here: trace in this process, which is quicker but takes turns with every other Python thread; else in the trial's.
    """

    def __init__(self, *, threads: int, trace_here: bool) -> None:
        self._threads, self._trace_here = threads, trace_here
        self._core = openvino.Core()
        self._core.set_property({"ENABLE_MMAP": False})  # files are read from a folder that goes away
        self._traced: dict[str, tuple[Any, Shapes]] = {}

    def compiled(self, wanted: Mapping[Key, nn.Module]) -> dict[Key, Outcome]:
        """Each network at its shapes, after it gave torch's answer in another process, or why not."""
        known = {part: shapes for part, (_, shapes) in self._traced.items()}
        outcomes = self._attempt(wanted)
        # A trace holds for the branches it took: sides that cannot be halved take others.
        again = {k: n for k, n in wanted.items() if isinstance(outcomes[k], CannotRun) and known.get(k[0], k[1]) != k[1]}
        for part, _ in again:
            self._traced.pop(part, None)
        return outcomes | (self._attempt(again) if again else {})

    def _attempt(self, wanted: Mapping[Key, nn.Module]) -> dict[Key, Outcome]:
        outcomes: dict[Key, Outcome] = {}
        with tempfile.TemporaryDirectory(prefix="phosphene-", ignore_cleanup_errors=True) as root:
            folders: dict[Key, Path] = {}
            for key, network in wanted.items():
                folder = Path(root) / str(len(folders))
                try:
                    self._pack(key, network, folder)
                    folders[key] = folder
                except Exception as error:  # converters raise everything there is; torch runs the network then
                    outcomes[key] = _failure(error)
            crashes = _try_all(folders)
            for key, folder in folders.items():
                try:
                    outcomes[key] = crashes[key] if key in crashes else self._proved(key, wanted[key], folder)
                except Exception as error:
                    outcomes[key] = _failure(error)
        return outcomes

    def _options(self, network: nn.Module) -> dict[str, Any]:
        precision = precision_of(network)
        # With its own fusing of attention, OpenVINO 2026.4 crashes on small heads in float32.
        apart = {"SNIPPETS_MODE": "DISABLE"} if precision == "f32" else {}
        return {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": self._threads, **apart}

    def _pack(self, key: Key, network: nn.Module, folder: Path) -> None:
        """Write what a trial reads."""
        part, shapes = key
        folder.mkdir(exist_ok=True)
        if part not in self._traced and self._trace_here:
            self._traced[part] = (trace(copy.deepcopy(network), shapes), shapes)
        if part in self._traced:
            openvino.save_model(self._traced[part][0], str(folder / "traced.xml"), compress_to_fp16=False)
        else:
            torch.save(network, folder / "network.pt")
        (folder / "options.json").write_text(json.dumps(self._options(network)), encoding="utf-8")
        inputs = {f"input_{place}": _array(tensor) for place, tensor in enumerate(_examples(shapes, seed=1))}  # not what the trace saw
        np.savez(folder / "inputs.npz", **inputs)  # type: ignore[arg-type]

    @torch.no_grad()
    def _proved(self, key: Key, network: nn.Module, folder: Path) -> Outcome:
        """The network compiled here, if the trial's answer is torch's."""
        part, shapes = key
        if (folder / "failed.txt").exists():
            return CannotRun(f"a trial failed ({(folder / 'failed.txt').read_text('utf-8')})")
        options, kind = self._options(network), next(network.parameters()).dtype
        answer = torch.from_numpy(np.load(folder / "answer.npy"))
        inputs = _examples(shapes, seed=1)
        expected = network(*(tensor if tensor.ndim == 1 else tensor.to(kind) for tensor in inputs)).float()
        deviation = float((answer - expected).square().mean().sqrt() / expected.square().mean().sqrt().clamp_min(1e-12))
        precision = str(options["INFERENCE_PRECISION_HINT"])
        if not deviation <= max(DEVIATION[precision], DEVIATION[PRECISIONS[kind]]):  # not a number is not well either
            return CannotRun(f"its answer differs from torch's by {deviation:.2g}")
        if part not in self._traced:
            self._traced[part] = (self._core.read_model(str(folder / "traced.xml")), shapes)
        model = self._traced[part][0].clone()
        model.reshape({port: openvino.PartialShape(list(shape)) for port, shape in zip(model.inputs, shapes, strict=True)})
        return CompiledNetwork(self._core.compile_model(model, "CPU", options), precision)


def _try_all(folders: Mapping[Key, Path]) -> dict[Key, CannotRun]:
    """One process tries them all, and another those that are left if one of them ended it; the ones that did."""
    crashes: dict[Key, CannotRun] = {}
    left = dict(folders)
    while left:
        ended = _run_trial(left.values())
        left = {k: f for k, f in left.items() if not ((f / "answer.npy").exists() or (f / "failed.txt").exists())}
        if left:
            guilty = next(iter(left))
            crashes[guilty] = CannotRun(f"a trial ended with {ended}")
            del left[guilty]
    return crashes


def _run_trial(folders: Iterable[Path]) -> str:
    """Exit status of a trial and its last word."""
    paths = [str(folder) for folder in folders]
    words = Path(paths[0]).with_suffix(".txt")
    command = [sys.executable, "-m", "engine.runtimes.openvino_trial", *paths]
    root = str(Path(__file__).resolve().parents[2])
    flags = getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0)  # on Windows; elsewhere it lowers itself
    # Its standard input is a pipe that nobody writes to: it ends when this process does.
    with (
        words.open("wb") as said,
        subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=said, stderr=said, creationflags=flags) as trial,
    ):
        try:
            status = f"{trial.wait(TRIAL_SECONDS)}"
        except subprocess.TimeoutExpired:
            trial.kill()
            status = "no answer in time"
    lines = words.read_text("utf-8", errors="replace").strip().splitlines()
    return f"{status} ({lines[-1][:200] if lines else 'no word'})"


def _failure(error: Exception) -> CannotRun:
    line = next(iter(str(error).strip().splitlines()), "")
    return CannotRun(f"it could not be converted ({type(error).__name__}: {line[:200]})")


def _examples(shapes: Shapes, *, seed: int) -> list[Tensor]:
    """Inputs to try a network with: timesteps are what has one axis."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.full(shape, 500.0 + 100.0 * seed) if len(shape) == 1 else torch.randn(shape, generator=generator) for shape in shapes]


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    return tensor.detach().float().contiguous().numpy()
