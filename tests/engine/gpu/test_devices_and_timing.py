"""Devices, threads, timers and transfers as far as a CPU shows them."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from engine.gpu.devices import choose_device, choose_dtype, cpu_has_bfloat16, set_threads
from engine.gpu.timing import StageTimer
from engine.gpu.transfer import Transfer
from engine.settings import Settings, SettingsError

CPU = torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA GPU")
def test_a_device_that_is_not_there_is_said_in_words() -> None:
    with pytest.raises(SettingsError, match="torch finds no CUDA GPU"):
        choose_device(Settings(device="cuda"))
    assert choose_device(Settings(device="auto")).type in ("cpu", "mps")


def test_precision_follows_the_wish_then_the_hardware() -> None:
    assert choose_dtype(Settings(dtype="float32"), torch.device("cuda")) is torch.float32
    assert choose_dtype(Settings(), torch.device("cuda")) is torch.float16
    expected = torch.bfloat16 if cpu_has_bfloat16() else torch.float32
    assert choose_dtype(Settings(), CPU) is expected


def test_threads_are_those_asked_for() -> None:
    before = torch.get_num_threads()
    try:
        assert set_threads(Settings(threads=1)) == 1 == torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def test_stages_are_timed() -> None:
    timer = StageTimer(CPU)
    for _ in range(3):
        with timer.stage("work"):
            end = time.perf_counter() + 0.002
            while time.perf_counter() < end:
                pass
    assert set(timer.milliseconds()) == {"work"}
    assert timer.milliseconds()["work"] >= 2.0


def test_an_upload_is_a_copy_and_comes_back() -> None:
    transfer = Transfer(CPU)
    pixels = np.random.default_rng(0).integers(0, 255, (5, 7, 4), dtype=np.uint8)
    there = transfer.upload(pixels)
    expected = pixels.copy()
    pixels[:] = 0
    download = transfer.download(there, torch.tensor([1], dtype=torch.uint8))
    pictures, marks = download.pixels()
    assert download.ready and marks == [1] and np.array_equal(pictures[0], expected)


def test_waiting_threads_sleep_in_an_engine() -> None:
    """The policy, and how long to wait awake, must stand in the environment before torch's thread library is loaded."""
    code = (
        "import os, sys; from engine.pipelines.build import let_waiting_threads_sleep as rest; rest(); "
        "print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY'], os.environ['GOMP_SPINCOUNT'])"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "PASSIVE", "1000"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library's memory is arranged on Linux only")
def test_freed_memory_is_kept_for_the_next_frame() -> None:
    """Told by the system's own count of new pages: what is taken and freed again and again does not come as new pages."""
    code = (
        "import resource\n"
        "import numpy as np\n"
        "from engine.gpu.host_memory import keep_freed_memory\n"
        "assert keep_freed_memory()\n"
        "def work():\n"
        "    parts = [np.ones(2_000_000, np.uint8) for _ in range(60)]\n"
        "for _ in range(3): work()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(10): work()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    pages_used = 10 * 60 * 2_000_000 // os.sysconf("SC_PAGE_SIZE")
    assert int(found.stdout) < pages_used / 100
