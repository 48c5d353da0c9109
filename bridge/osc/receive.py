"""From a datagram to live values: what each message sets, fires or asks. No socket in here."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from bridge.osc.addresses import NORMALISED, PREFIX, VALUE_WORDS, Addresses, Means, Target
from bridge.osc.guard import Argument, Message, read_packet
from bridge.osc.refusals import Refusals
from engine.control.live_values import LiveValues
from engine.control.parameter import BadValue, Kind
from engine.control.table import BY_NAME, PROMPT_SLOTS

MAX_JSON = 16_000
"""Characters of a prompt list."""


@dataclass(frozen=True, slots=True)
class Question:
    """Somebody asks for a parameter; the answer goes to this address."""

    address: str
    target: Target


@dataclass(frozen=True, slots=True)
class Subscription:
    """Somebody wants changes sent to this port of his host (None: where he sends from), or wants no more of them.

    prefix: what stands before the addresses he gets, as it stood before the command.
    """

    wanted: bool
    port: int | None
    prefix: str


@dataclass(frozen=True, slots=True)
class StatusQuestion:
    """Somebody asks for all readouts."""

    prefix: str


Request = Question | Subscription | StatusQuestion
"""What a message asks of the sending side."""


class Receiver:
    """Applies datagrams to the live values; a refused message never stops the others of its packet. For one thread."""

    def __init__(self, values: LiveValues, *, addresses: Addresses | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._values = values
        self._addresses = addresses or Addresses()
        self._refusals = Refusals(now=now)
        self.packets = 0
        self.messages = 0

    @property
    def refused(self) -> dict[str, int]:
        """Refusals so far, by reason."""
        return self._refusals.counts

    def receive(self, datagram: bytes, host: str, port: int) -> list[Request]:
        """Apply all that the datagram sets and fires; what it asks comes back in order. Never raises for any bytes."""
        sender = f"{host}:{port}"
        packet = read_packet(datagram)
        self.packets += 1
        self.messages += len(packet.messages)
        for reason in packet.refused:
            self._refusals.add(reason, about="", sender=sender)
        requests: list[Request] = []
        for message in packet.messages:
            for address, target in self._targets(message, sender):
                try:
                    request = self._act(address, target, message, origin_of(host, port))
                except BadValue as error:
                    self.refuse("bad value", str(error), sender=sender)
                else:
                    requests += [request] if request else []
        return requests

    def refuse(self, reason: str, sentence: str, *, sender: str) -> None:
        """Count a refusal that has its own sentence."""
        self._refusals.add(reason, about=sentence, sender=sender, explain=lambda: sentence)

    def _targets(self, message: Message, sender: str) -> tuple[tuple[str, Target], ...]:
        address = message.address
        target = self._addresses.exact(address)
        if target is not None:
            return ((address, target),)
        if message.is_pattern:
            found = self._addresses.matching(address)
            if not is_question(message):
                found = tuple(pair for pair in found if not BY_NAME[pair[1].name].read_only)
            if found:
                return found

        def explain() -> str:
            near = self._addresses.nearest(address)
            return f"there is no address {address}" + (f"; did you mean {near}?" if near else "")

        self._refusals.add("unknown address", about=address, sender=sender, explain=explain)
        return ()

    def _act(self, address: str, target: Target, message: Message, origin: str) -> Request | None:
        """Do what one message means at one address. Raises BadValue."""
        match target.means:
            case Means.VALUE | Means.NORMALISED if is_question(message):
                return Question(address=address, target=target)
            case Means.VALUE:
                self._set_value(target.name, message.args, origin)
            case Means.NORMALISED:
                number = _only_number(address, message.args)
                self._values.set(target.name, BY_NAME[target.name].from_unit_interval(number), origin)
            case Means.FIXED:
                if fires(message.args):
                    self._values.set(target.name, target.value, origin)
            case Means.PROMPT_LIST:
                self._values.set_many(read_prompt_list(message.args), origin)
            case Means.STATUS:
                return StatusQuestion(prefix=_prefix(address))
            case Means.SUBSCRIBE | Means.UNSUBSCRIBE:
                wanted = target.means is Means.SUBSCRIBE
                return Subscription(wanted=wanted, port=_port(address, message.args), prefix=_prefix(address))
        return None

    def _set_value(self, name: str, args: tuple[Argument, ...], origin: str) -> None:
        kind = BY_NAME[name].kind
        if kind is Kind.TRIGGER:
            if fires(args):
                self._values.set(name, None, origin)
            return
        if kind is Kind.LIST:
            self._values.set(name, args[0] if len(args) == 1 else args, origin)
            return
        if kind is Kind.TEXT and len(args) > 1:
            args = (" ".join(str(arg) for arg in args),)
        if len(args) != 1:
            raise BadValue(f"{name} takes one argument, not {len(args)}")
        words = VALUE_WORDS.get(name, {})
        self._values.set(name, words.get(args[0], args[0]) if isinstance(args[0], str) else args[0], origin)


def origin_of(host: str, port: int) -> str:
    """How a sender is named as the origin of a change."""
    return f"osc:{host}:{port}"


def is_question(message: Message) -> bool:
    """Whether a message asks for the value."""
    return message.args == ("?",)


def fires(args: tuple[Argument, ...]) -> bool:
    """Whether a trigger fires: on no argument or a true one, not on the 0 that a released button sends."""
    if not args:
        return True
    first = args[0]
    if isinstance(first, str):
        return first.strip().lower() not in ("", "0", "false", "off", "no")
    return first is not None and math.isfinite(first) and bool(first)


def read_prompt_list(args: tuple[Argument, ...]) -> dict[str, object]:
    """The values of all prompt slots from JSON: [[text, weight], ...]; slots without a pair fall silent (BadValue)."""
    expected = f'a prompt list is JSON such as [["text", 1.0], ...] with at most {PROMPT_SLOTS} pairs'
    if len(args) != 1 or not isinstance(args[0], str) or len(args[0]) > MAX_JSON:
        raise BadValue(expected)
    try:
        pairs = json.loads(args[0])
    except (ValueError, RecursionError):
        raise BadValue(expected) from None
    if not isinstance(pairs, list) or not 1 <= len(pairs) <= PROMPT_SLOTS:
        raise BadValue(expected)
    found: dict[str, object] = {}
    for slot in range(PROMPT_SLOTS):
        name = "prompt" if slot == 0 else f"prompt_{slot + 1}"
        pair = pairs[slot] if slot < len(pairs) else ["", 0.0]
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise BadValue(expected)
        found[name], found[f"{name}_weight"] = pair
    return found


def _only_number(address: str, args: tuple[Argument, ...]) -> float:
    if len(args) == 1 and isinstance(args[0], (bool, int, float)) and math.isfinite(args[0]):
        return float(args[0])
    raise BadValue(f"{address} takes one number from 0 to 1")


def _port(address: str, args: tuple[Argument, ...]) -> int | None:
    if not args:
        return None
    if len(args) == 1 and isinstance(args[0], (int, float)) and 1 <= args[0] <= 65_535:
        return int(args[0])
    raise BadValue(f"{address} takes a port from 1 to 65535, or nothing")


def _prefix(address: str) -> str:
    return PREFIX if address.startswith(PREFIX + "/") else ""


__all__ = ["NORMALISED", "Question", "Receiver", "Request", "StatusQuestion", "Subscription", "origin_of"]
