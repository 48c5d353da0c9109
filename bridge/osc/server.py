"""The OSC port: one UDP socket and one thread that receives, answers and sends feedback."""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bridge.osc import DEFAULT_OSC_PORT
from bridge.osc.feedback import CHANGES_PER_SECOND, Feedback, is_loopback
from bridge.osc.receive import Question, Receiver, Request, StatusQuestion, Subscription, origin_of
from bridge.port_busy import PortBusy
from engine.control.live_values import LiveValues

RECEIVE_BUFFER_BYTES = 1 << 20
LARGEST_PACKET = 65_535
IDLE_SECONDS = 0.2
"""How long a stop may have to wait for the thread."""

log = logging.getLogger("phosphene.osc")


class OscError(OSError):
    """The OSC port cannot be opened, for another reason than that it is taken."""


@dataclass(frozen=True, slots=True)
class OscStats:
    """Counts since the start. faults: mistakes of ours and of the network that were survived; the first is logged."""

    packets: int
    messages: int
    sent: int
    subscribers: int
    refused: Mapping[str, int]
    faults: int


class OscServer:
    """Parameters over OSC. Owns its thread; `start` raises PortBusy or OscError, `stop` joins."""

    def __init__(
        self,
        values: LiveValues,
        *,
        host: str = "127.0.0.1",
        port: int = DEFAULT_OSC_PORT,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host, self._port = host, port
        self._receiver = Receiver(values, now=now)
        self._feedback = Feedback(values, open_to_others=not is_loopback(host), now=now)
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._sent = self._faults = 0

    @property
    def port(self) -> int:
        """The port that is open; with port 0 the one the system chose."""
        return self._port

    def describe(self) -> str:
        """One line for people."""
        reach = "this machine" if is_loopback(self._host) else "ALL machines that reach it"
        return f"OSC on UDP {self._host} port {self._port}, open to {reach}"

    def stats(self) -> OscStats:
        """Counts so far; from any thread."""
        return OscStats(
            packets=self._receiver.packets,
            messages=self._receiver.messages,
            sent=self._sent,
            subscribers=self._feedback.subscribers,
            refused=self._receiver.refused,
            faults=self._faults,
        )

    def start(self) -> None:
        """Open the port and begin to listen."""
        self._socket = _open(self._host, self._port)
        self._port = int(self._socket.getsockname()[1])
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, args=(self._socket,), name="osc", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port; returns when the thread has ended."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self, port: socket.socket) -> None:
        with port:
            while not self._stopping.is_set():
                port.settimeout(1.0 / CHANGES_PER_SECOND if self._feedback.subscribers else IDLE_SECONDS)
                try:
                    datagram, sender = port.recvfrom(LARGEST_PACKET)
                except (TimeoutError, ConnectionResetError):  # Windows reports a reply that nobody took as a reset
                    datagram, sender = None, None
                except OSError as error:
                    self._count_fault(f"the OSC port reports: {error}")
                    self._stopping.wait(IDLE_SECONDS)  # a network that is down must not make this loop spin
                    continue
                try:
                    if datagram is not None:
                        self._take(port, datagram, sender)
                    for message, to in self._feedback.due():
                        self._send(port, message, to)
                except Exception:  # a mistake of ours must not end the control of a running show
                    self._count_fault("an OSC packet was lost by a mistake in Phosphene, which goes on")

    def _count_fault(self, sentence: str) -> None:
        self._faults += 1
        if self._faults == 1:
            log.exception(sentence)

    def _take(self, port: socket.socket, datagram: bytes, sender: tuple[str, int]) -> None:
        host, sender_port = sender[0], sender[1]
        self._feedback.heard(host, sender_port)
        for request in self._receiver.receive(datagram, host, sender_port):
            self._serve(port, request, host, sender_port)

    def _serve(self, port: socket.socket, request: Request, host: str, sender_port: int) -> None:
        if isinstance(request, Question):
            self._send(port, self._feedback.answer(request), (host, sender_port))
        elif isinstance(request, StatusQuestion):
            for message in self._feedback.readouts(request.prefix):
                self._send(port, message, (host, sender_port))
        elif not request.wanted:
            self._feedback.unsubscribe(host, request.port or sender_port)
        else:
            self._welcome(port, request, host, sender_port)

    def _welcome(self, port: socket.socket, request: Subscription, host: str, sender_port: int) -> None:
        reply_port = request.port or sender_port
        welcome = None
        if not (reply_port == self._port and is_loopback(host)):  # we do not talk to ourselves
            welcome = self._feedback.subscribe(host, reply_port, sender_port=sender_port, prefix=request.prefix)
        if welcome is None:
            sentence = f"{origin_of(host, reply_port)} cannot subscribe: it is our own port, or all places are taken"
            self._receiver.refuse("subscription refused", sentence, sender=f"{host}:{sender_port}")
        for message, to in welcome or ():
            self._send(port, message, to)

    def _send(self, port: socket.socket, message: bytes, to: tuple[str, int]) -> None:
        try:
            port.sendto(message, to)
            self._sent += 1
        except OSError as error:  # a peer that cannot be reached, or a text too long for one packet
            self._receiver.refuse("reply not sent", f"a reply of {len(message)} bytes: {error}", sender=f"{to[0]}:{to[1]}")


def _open(host: str, port: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        exclusive = getattr(socket, "SO_EXCLUSIVEADDRUSE", None)  # Windows would let another program share the port
        if exclusive is not None:
            opened.setsockopt(socket.SOL_SOCKET, exclusive, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        opened.bind((host, port))
    except OSError as error:
        opened.close()
        reserved = error.errno == errno.EACCES and port >= 1024  # how Windows names a port held exclusively
        if error.errno == errno.EADDRINUSE or reserved:
            raise PortBusy(what="OSC", host=host, port=port, option="--osc-port") from None
        raise OscError(f"OSC cannot listen on {host} port {port}: {error.strerror or error}; check --osc-host") from None
    return opened
