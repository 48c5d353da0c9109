"""OSC with liblo's own programs, oscsend and oscdump, on loopback (Debian: liblo-tools)."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.osc.server import OscServer
from engine.control.live_values import LiveValues

pytestmark = pytest.mark.skipif(
    shutil.which("oscsend") is None or shutil.which("oscdump") is None,
    reason="liblo-tools (oscsend, oscdump) is not here",
)


@pytest.fixture
def values() -> LiveValues:
    return LiveValues()


@pytest.fixture
def server(values: LiveValues) -> Iterator[OscServer]:
    running = OscServer(values, port=0)
    running.start()
    yield running
    running.stop()


def oscsend(server: OscServer, *words: str) -> None:
    subprocess.run(["oscsend", "127.0.0.1", str(server.port), *words], check=True, timeout=20)


def until(condition: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        threading.Event().wait(0.01)
    return True


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["/strength", "f", "0.25"], "strength", 0.25),
        (["/strength", "d", "0.125"], "strength", 0.125),
        (["/strength", "i", "0"], "strength", 0.0),
        (["/steps", "f", "3.0"], "steps", 3),
        (["/seed", "h", "123456789"], "seed", 123456789),
        (["/freeze", "T"], "freeze", True),
        (["/add_noise", "F"], "add_noise", False),
        (["/prompt", "s", "a red fox"], "prompt", "a red fox"),
        (["/prompt", "S", "symbol"], "prompt", "symbol"),
        (["/guidance", "s", "full"], "guidance", "full"),
        (["/t_list", "iii", "700", "400", "100"], "step_list", (700, 400, 100)),
        (["/norm/delta", "f", "0.25"], "delta", 0.5),
        (["/{delta,nothing}", "f", "0.75"], "delta", 0.75),
        (["/frame_buffer", "c", "A"], "frame_buffer", 8),
    ],
)
def test_liblo_sets(server: OscServer, values: LiveValues, words: list[str], name: str, value: object) -> None:
    oscsend(server, *words)
    assert until(lambda: values.get(name) == value), values.get(name)
    assert server.stats().refused == {}


@pytest.mark.parametrize(("words", "fired"), [([], True), (["T"], True), (["I"], True), (["F"], False), (["N"], False)])
def test_liblo_fires(server: OscServer, values: LiveValues, words: list[str], fired: bool) -> None:
    oscsend(server, "/reset", *words)
    oscsend(server, "/seed", "i", "5")
    assert until(lambda: values.get("seed") == 5)
    assert ("reset" in values.snapshot(0.0).fired) is fired


@pytest.mark.skipif(shutil.which("oscsendfile") is None, reason="this liblo-tools has no oscsendfile")
def test_liblo_bundles_with_a_time_tag(server: OscServer, values: LiveValues, tmp_path: Path) -> None:
    """A bundle made by liblo, dated by its clock: all of it is taken at once."""
    script = tmp_path / "script.txt"
    script.write_text("".join(f"e0000000.00000001 {line}\n" for line in ("/mix f 0.5", "/delta s much", "/seed i 9")))
    subprocess.run(["oscsendfile", "127.0.0.1", str(server.port), str(script)], check=True, timeout=20)
    assert until(lambda: values.get("seed") == 9)
    assert values.get("mix") == 0.5
    stats = server.stats()
    assert (stats.packets, stats.messages, stats.refused) == (1, 3, {"bad value": 1})


def test_liblo_hears_what_we_send(server: OscServer, values: LiveValues) -> None:
    """oscdump subscribes by proxy, gets all values, then changes and readouts; liblo reads every one of them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    values.set("prompt", "größer als 'ein' \"Satz\"", "web")
    dump = subprocess.Popen(["oscdump", "-L", str(port)], stdout=subprocess.PIPE, text=True)
    lines: list[str] = []
    assert dump.stdout is not None
    stdout = dump.stdout
    reader = threading.Thread(target=lambda: lines.extend(iter(stdout.readline, "")), daemon=True)
    reader.start()
    heard = lambda end: any(line.rstrip().endswith(end) for line in list(lines))  # noqa: E731
    try:

        def subscribed() -> bool:
            oscsend(server, "/subscribe", "i", str(port))
            return until(lambda: bool(lines), 0.5)

        assert until(subscribed)
        values.set_many({"strength": 0.5, "step_list": (32, 45), "seed": 77, "freeze": True}, "web")
        values.report({"fps": 25.0, "dropped": 2**40, "state": "running"})
        for end in (
            "/strength f 0.500000", "/step_list ii 32 45", "/seed i 77", "/freeze i 1",
            "/status/fps f 25.000000", f"/status/dropped h {2**40}", '/status/state s "running"',
        ):  # fmt: skip
            assert until(lambda end=end: heard(end)), (end, lines[-20:])
        assert any("größer" in line for line in lines)
    finally:
        dump.terminate()
        dump.wait(10)
        reader.join(10)


def test_liblo_gets_answers_to_questions(server: OscServer, values: LiveValues) -> None:
    """The answer to a question, passed on byte for byte, is read by liblo."""
    values.set("delta", 0.5, "web")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.bind(("127.0.0.1", 0))
        asking.sendto(b"/delta\0\0,s\0\0?\0\0\0", ("127.0.0.1", server.port))
        asking.settimeout(10)
        answer, port = asking.recv(1000), asking.getsockname()[1]
    dump = subprocess.Popen(["oscdump", "-L", str(port)], stdout=subprocess.PIPE, text=True)
    assert dump.stdout is not None
    stdout, lines = dump.stdout, []
    reader = threading.Thread(target=lambda: lines.append(stdout.readline()), daemon=True)
    reader.start()
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as forwarding:

            def forwarded() -> bool:
                forwarding.sendto(answer, ("127.0.0.1", port))
                return until(lambda: bool(lines), 0.2)

            assert until(forwarded)
    finally:
        dump.terminate()
        dump.wait(10)
        reader.join(10)
    assert lines[0].rstrip().endswith("/delta f 0.500000")
