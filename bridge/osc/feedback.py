"""What we send over OSC: answers to questions, changes to subscribers, readouts. Makes datagrams; sends nothing itself."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass

from bridge.osc.addresses import Means, addresses_of
from bridge.osc.encode import encode, encode_value
from bridge.osc.receive import Question, origin_of
from engine.control.live_values import LiveValues
from engine.control.parameter import Kind, Parameter, Value
from engine.control.table import BY_NAME, TABLE

CHANGES_PER_SECOND = 30.0
READOUTS_PER_SECOND = 5.0
MAX_SUBSCRIBERS = 16
LIFETIME_SECONDS = 300.0
"""A subscription ends after this time without a message from its subscriber."""

Addressed = tuple[bytes, tuple[str, int]]
"""A datagram, and the host and port it is for."""

_SENT_FROM = {row.name: addresses_of(row)[0] for row in TABLE}
_SHOWN = tuple(row for row in TABLE if row.kind is not Kind.TRIGGER)
_READOUTS = tuple(row for row in TABLE if row.read_only)


@dataclass(slots=True)
class _Subscriber:
    origin: str
    prefix: str
    ends_at: float


class Feedback:
    """Subscribers and what is due to them. For one thread.

    open_to_others: whether the socket serves other machines; if not, nothing is ever sent to one.
    """

    def __init__(self, values: LiveValues, *, open_to_others: bool = False, now: Callable[[], float] = time.monotonic) -> None:
        self._values = values
        self._open = open_to_others
        self._now = now
        self._subscribers: dict[tuple[str, int], _Subscriber] = {}
        self._version = 0
        self._changes_at = self._readouts_at = 0.0

    @property
    def subscribers(self) -> int:
        """How many there are now."""
        return len(self._subscribers)

    def answer(self, question: Question) -> bytes:
        """The value asked for, at the address it was asked at; a normalised question gets a normalised answer."""
        row = BY_NAME[question.target.name]
        value = self._values.get(row.name)
        if question.target.means is Means.NORMALISED:
            return encode(question.address, (row.to_unit_interval(row.to_number(value)),))
        return _in_kind(question.address, row, value)

    def readouts(self, prefix: str = "") -> list[bytes]:
        """All readouts, one message each."""
        return [self._message(row, prefix) for row in _READOUTS]

    def subscribe(self, host: str, port: int, *, sender_port: int, prefix: str = "") -> list[Addressed] | None:
        """Take a subscriber on, or renew him: the current values are for him. None: refused, the list is full or he is
        on another machine."""
        to = (host, port)
        if not (self._open or is_loopback(host)):
            return None
        self._forget_the_expired()
        if to not in self._subscribers and len(self._subscribers) >= MAX_SUBSCRIBERS:
            return None
        if not self._subscribers:
            self._version, _ = self._values.changes_since(self._version)
        ends_at = self._now() + LIFETIME_SECONDS
        self._subscribers[to] = _Subscriber(origin=origin_of(host, sender_port), prefix=prefix, ends_at=ends_at)
        return [(self._message(row, prefix), to) for row in _SHOWN]

    def unsubscribe(self, host: str, port: int) -> None:
        """Send no more there."""
        self._subscribers.pop((host, port), None)

    def heard(self, host: str, port: int) -> None:
        """A message came from there: a subscriber who sends is alive, which renews his subscription."""
        if self._subscribers:
            origin = origin_of(host, port)
            for to, subscriber in self._subscribers.items():
                if origin in (subscriber.origin, origin_of(*to)):
                    subscriber.ends_at = self._now() + LIFETIME_SECONDS

    def due(self) -> list[Addressed]:
        """What has to be sent now: changes not older than 1/30 s apart, readouts 1/5 s apart. Cheap without subscribers."""
        now = self._now()
        if not self._subscribers or now < self._changes_at:
            return []
        self._changes_at = now + 1.0 / CHANGES_PER_SECOND
        self._forget_the_expired()
        self._version, changes = self._values.changes_since(self._version)
        sent: list[Addressed] = []
        for change in changes:
            row = BY_NAME[change.name]
            if row.read_only or row.kind is Kind.TRIGGER:
                continue
            for to, subscriber in self._subscribers.items():
                if change.origin not in (subscriber.origin, origin_of(*to)):
                    sent.append((_in_kind(subscriber.prefix + _SENT_FROM[row.name], row, change.value), to))
        if now >= self._readouts_at:
            self._readouts_at = now + 1.0 / READOUTS_PER_SECOND
            for to, subscriber in self._subscribers.items():
                sent += [(message, to) for message in self.readouts(subscriber.prefix)]
        return sent

    def _message(self, row: Parameter, prefix: str) -> bytes:
        return _in_kind(prefix + _SENT_FROM[row.name], row, self._values.get(row.name))

    def _forget_the_expired(self) -> None:
        now = self._now()
        self._subscribers = {to: one for to, one in self._subscribers.items() if one.ends_at > now}


def _in_kind(address: str, row: Parameter, value: Value) -> bytes:
    """A decimal always goes as a decimal, so a host sees one type at an address."""
    return encode_value(address, float(value) if row.kind is Kind.FLOAT else value)  # type: ignore[arg-type]


def is_loopback(host: str) -> bool:
    """Whether an address stays on this machine."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


__all__ = ["Feedback", "is_loopback"]
