"""Python scripts run in a process of their own: what would crash a process must not crash the tests."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

START = """
import threading, time, uuid
import numpy as np
from fractions import Fraction
from engine.frames import PixelFormat
from bridge.ndi import library
from bridge.ndi.library import NdiRefused, NdiNameTaken, NdiUnavailable
from bridge.ndi.handles import SendHandle, ReceiveHandle, FindHandle
from bridge.ndi.pictures import PictureRefused

def raises(kind, call, *arguments, **options):
    try:
        call(*arguments, **options)
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__}")

def picture(height=96, width=128, level=90):
    return np.full((height, width, 4), level, np.uint8)

def send(handle, pixels, pixel_format=PixelFormat.BGRX):
    handle.send(pixels=pixels, pixel_format=pixel_format, timecode=5, rate=Fraction(30))

def found(handle):
    with FindHandle(extra_ips=["127.0.0.1"] * 16) as finder:
        for _ in range(100):
            for source in finder.sources():
                if source.name == handle.full_name:
                    return source
            finder.wait(timeout_seconds=0.1)
    raise AssertionError("not found")

def arrives(sender, receiver, pixels, pixel_format=PixelFormat.BGRX):
    for _ in range(200):
        send(sender, pixels, pixel_format)
        arrived = receiver.newest(timeout_seconds=0.05)
        if arrived is not None and arrived.pixels.shape[:2] == pixels.shape[:2]:
            return arrived
    raise AssertionError("no frame came")

name = f"test-{uuid.uuid4().hex[:12]}"
"""


@pytest.fixture
def run_script(tmp_path: Path) -> Callable[..., str]:
    """run_script(text, with_start=True, **environment) -> what it printed; fails unless it ends with code 0."""

    def run(text: str, *, with_start: bool = True, environment: dict[str, str] | None = None) -> str:
        script = (START if with_start else "") + textwrap.dedent(text) + "\nprint('came to its end')\n"
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={
                **os.environ,
                "TMPDIR": str(tmp_path),
                "PYTHONPATH": os.pathsep.join(part for part in sys.path if part),
                "MALLOC_PERTURB_": "165",
                **(environment or {}),
            },
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0 and "came to its end" in done.stdout, (done.returncode, done.stdout, done.stderr)
        return done.stdout

    return run
