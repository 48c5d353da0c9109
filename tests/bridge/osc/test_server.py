"""The OSC port with real sockets on loopback."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from pythonosc.osc_message_builder import build_msg

from bridge.osc.guard import Message, read_packet
from bridge.osc.server import OscError, OscServer
from bridge.port_busy import PortBusy
from engine.control.live_values import LiveValues


@pytest.fixture
def values() -> LiveValues:
    return LiveValues()


@pytest.fixture
def server(values: LiveValues) -> Iterator[OscServer]:
    running = OscServer(values, port=0)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind(("127.0.0.1", 0))
        opened.settimeout(10)
        yield opened


def until(condition: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        threading.Event().wait(0.005)
    return True


def ask(peer: socket.socket, server: OscServer, address: str, *args: object) -> Message:
    peer.sendto(build_msg(address, list(args)).dgram, ("127.0.0.1", server.port))
    return read_packet(peer.recv(65_535)).messages[0]


def test_sets_and_answers(server: OscServer, values: LiveValues, peer: socket.socket) -> None:
    peer.sendto(build_msg("/strength", [0.25]).dgram, ("127.0.0.1", server.port))
    assert ask(peer, server, "/strength", "?") == Message("/strength", (0.25,))
    assert values.get("strength") == 0.25


def test_a_prompt_of_sixty_thousand_bytes_arrives(server: OscServer, values: LiveValues, peer: socket.socket) -> None:
    peer.sendto(build_msg("/prompt", ["x" * 60_000]).dgram, ("127.0.0.1", server.port))
    assert ask(peer, server, "/mix", "?") == Message("/mix", (1.0,))
    assert values.get("prompt") == "x" * 10_000


def test_goes_on_after_hostile_packets(server: OscServer, peer: socket.socket) -> None:
    hang = b"#bundle\0" + bytes(8) + struct.pack(">i", -4)
    far_future = b"#bundle\0" + b"\xff" * 8 + struct.pack(">i", 12) + b"/mix\0\0\0\0,T\0\0"
    stars = build_msg("/" + "*" * 60 + "Z", []).dgram
    for raw in (hang, b"", b"\xff" * 1000, far_future, stars, build_msg("/*/*/*/*Z", []).dgram):
        peer.sendto(raw, ("127.0.0.1", server.port))
    assert ask(peer, server, "/mix", "?") == Message("/mix", (1.0,))
    stats = server.stats()
    assert stats.faults == 0 and stats.packets == 7
    assert stats.refused["broken bundle"] == 1 and stats.refused["too many wildcards in the address"] == 1
    assert sum(thread.name == "osc" for thread in threading.enumerate()) == 1


def test_feedback_reaches_a_subscriber(server: OscServer, values: LiveValues, peer: socket.socket) -> None:
    assert ask(peer, server, "/subscribe").address == "/prompt"
    values.set("seed", 77, "web")
    seen: list[Message] = []
    end = time.monotonic() + 10
    while Message("/seed", (77,)) not in seen and time.monotonic() < end:
        seen += read_packet(peer.recv(65_535)).messages
    assert Message("/seed", (77,)) in seen
    peer.sendto(build_msg("/unsubscribe", []).dgram, ("127.0.0.1", server.port))
    assert until(lambda: server.stats().subscribers == 0)


def test_nobody_can_subscribe_the_port_to_itself(server: OscServer, peer: socket.socket) -> None:
    peer.sendto(build_msg("/subscribe", [server.port]).dgram, ("127.0.0.1", server.port))
    assert until(lambda: server.stats().refused.get("subscription refused") == 1)
    assert server.stats().subscribers == 0


def test_a_busy_port_is_named_with_the_remedy(server: OscServer, values: LiveValues) -> None:
    with pytest.raises(PortBusy, match=rf"OSC port {server.port} on 127.0.0.1 is in use .*--osc-port"):
        OscServer(values, port=server.port).start()


def test_an_address_of_another_machine_is_a_named_error(values: LiveValues) -> None:
    with pytest.raises(OscError, match="--osc-host"):
        OscServer(values, host="203.0.113.5", port=0).start()


def test_stop_frees_the_port_and_the_thread(values: LiveValues) -> None:
    first = OscServer(values, port=0)
    first.start()
    first.stop()
    second = OscServer(values, port=first.port)
    second.start()
    second.stop()
    second.stop()
    assert not any(thread.name == "osc" for thread in threading.enumerate())
