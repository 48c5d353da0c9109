"""NDI devices in child processes without any peer: what cannot be had is said in the parent, and who gets a child at all."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

HEAD = """
import os, psutil
from bridge import devices
from bridge.ndi.sender_process import NdiSenderProcess
from bridge.ndi.receiver_process import NdiReceiverProcess
def children():
    return [each for each in psutil.Process().children() if "spawn_main" in " ".join(each.cmdline())]
"""


@pytest.fixture
def without_ndi(tmp_path: Path) -> dict[str, str]:
    """An environment in which the package seems not to be installed, for children too."""
    folder = tmp_path / "hidden"
    folder.mkdir()
    (folder / "NDIlib.py").write_text("raise ModuleNotFoundError(\"No module named 'NDIlib'\")\n")
    return {"PYTHONPATH": os.pathsep.join([str(folder), *(part for part in sys.path if part)])}


def test_where_the_package_is_missing_start_says_so(run_script, without_ndi):
    run_script(
        HEAD
        + """
for device in (NdiSenderProcess(name=name), NdiReceiverProcess(source="any", put=lambda *frame: None)):
    for _ in range(2):
        assert "pip install ndi-python" in raises(NdiUnavailable, device.start)
    device.stop()
    assert device.pid == 0 and not children()
""",
        environment=without_ndi,
    )


def test_the_library_stays_out_of_the_parent(run_script):
    run_script(
        HEAD
        + """
sink = devices.open_sink("ndi:" + name, fps=30, size=(64, 64)); sink.start()
source = devices.open_source("ndi:nobody", lambda *frame: None, size=(64, 64), fps=30, ignore=()); source.start()
assert name in devices.sender_name(sink) and sink.error == "" and source.state == "waiting"
while len(children()) < 2: time.sleep(0.01)
import sys
assert "NDIlib" not in sys.modules
sink.stop(); source.stop()
assert not children()
"""
    )


def test_in_process_means_no_child(run_script):
    run_script(
        HEAD
        + """
sink = devices.open_sink("ndi:" + name, fps=30, in_process=True); sink.start()
put = lambda *frame: None
source = devices.open_source("ndi:nobody", put, size=(64, 64), fps=30, ignore=(), in_process=True); source.start()
assert name in devices.sender_name(sink) and not children()
sink.stop(); source.stop()
"""
    )


def test_leaving_without_a_goodbye_leaves_nothing(run_script):
    run_script(
        HEAD
        + """
from engine import segments
sender = NdiSenderProcess(name=name); sender.start()
receiver = NdiReceiverProcess(source="nobody", put=lambda *frame: None); receiver.start()
import atexit
def last():
    assert not children() and not [each for each in segments.present() if f"_{os.getpid()}_" in each], segments.present()
    print("nothing left", flush=True)
atexit._run_exitfuncs(); last()
"""
    )


def test_an_address_that_ndi_cannot_use_is_refused_at_once(run_script):
    run_script(HEAD + """raises(ValueError, NdiReceiverProcess, source="tcp://a:1", put=lambda *frame: None)""")
