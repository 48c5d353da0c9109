"""Tries networks in OpenVINO in a process of its own, at low priority: `python -m engine.runtimes.openvino_trial FOLDER...`.

Compilers of networks can end the process that calls them (OpenVINO 2026.4 does for some attention layers in float32). The engine
compiles only what has run here before. A FOLDER holds options.json, inputs.npz and either traced.xml or, to be traced here,
network.pt; it gets traced.xml and answer.npy, or failed.txt. Ends when its standard input does, with whoever started it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import threading
from pathlib import Path


def attempt(folder: Path) -> None:
    """Trace if need be, compile, run once, write the answer."""
    import numpy as np
    import openvino

    with np.load(folder / "inputs.npz") as stored:
        inputs = [stored[f"input_{place}"] for place in range(len(stored.files))]
    if (folder / "network.pt").exists():
        import torch

        from engine.runtimes.openvino_network import trace

        torch.set_num_threads(1)
        network = torch.load(folder / "network.pt", weights_only=False)  # which the engine wrote a moment ago
        model = trace(network, tuple(each.shape for each in inputs))
        openvino.save_model(model, str(folder / "traced.xml"), compress_to_fp16=False)
    core = openvino.Core()
    model = core.read_model(str(folder / "traced.xml"))
    if len(model.inputs) != len(inputs):
        raise ValueError("some of its inputs were lost in the conversion")
    model.reshape({port: openvino.PartialShape(list(each.shape)) for port, each in zip(model.inputs, inputs, strict=True)})
    compiled = core.compile_model(model, "CPU", json.loads((folder / "options.json").read_text("utf-8")))
    np.save(folder / "unchecked.npy", compiled.create_infer_request().infer(inputs)[0])
    (folder / "unchecked.npy").rename(folder / "answer.npy")


def main(folders: list[Path]) -> None:
    """All of them, one after the other; a failure of one leaves its line and the others go on."""
    if hasattr(os, "nice"):
        os.nice(10)
    threading.Thread(target=_end_with_parent, args=(folders[0].parent,), daemon=True).start()
    for folder in folders:
        try:
            attempt(folder)
        except Exception as error:  # converters raise everything there is
            line = next(iter(str(error).strip().splitlines()), "")
            (folder / "failed.txt").write_text(f"{type(error).__name__}: {line[:200]}", encoding="utf-8")
    sys.stderr.flush()
    os._exit(0)  # not to wait for the thread that reads


def _end_with_parent(root: Path) -> None:
    with contextlib.suppress(OSError):
        os.read(0, 1)
    shutil.rmtree(root, ignore_errors=True)  # the one who made it is gone
    os._exit(1)


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
