"""From a datagram to checked OSC messages, in bounded time whatever the bytes are. No addresses, no values, no sockets.

python-osc decodes single messages behind this guard; it never sees a bundle, an argument type that it would skip
without consuming its bytes, or more arguments than `MAX_ARGS`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from pythonosc.osc_message import OscMessage, ParseError

MAX_DEPTH = 8
"""Bundles within bundles."""
MAX_MESSAGES = 512
"""Messages a packet, good and bad."""
MAX_PATTERNS = 16
"""Messages a packet whose address holds wildcards."""
MAX_ADDRESS = 255
"""Characters of an address."""
MAX_WILDCARDS = 4
"""Of `*`, `?`, `[` and `{` together, in one address."""
MAX_ARGS = 64
"""Arguments a message, brackets of arrays not counted."""

BUNDLE = b"#bundle\0"
WILDCARDS = frozenset("*?[{")
Argument = bool | int | float | str | None

_PLAIN_TYPES = frozenset("ifshdTFNr")
_LEAST_BYTES = {"h": 8, "d": 8, "T": 0, "F": 0, "N": 0}
"""Bytes of an argument by type, at least; 4 where the type is not named."""
_RETYPED = str.maketrans({"c": "i", "S": "s", "I": None, "[": None, "]": None})
"""Types that python-osc does not read: a character is a whole number, a symbol a string; an impulse and the brackets
of an array carry no bytes, so arrays come out flat and an impulse as no argument at all."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message: an address of printable ASCII, and its arguments without nesting."""

    address: str
    args: tuple[Argument, ...]

    @property
    def is_pattern(self) -> bool:
        """Whether the address may mean several."""
        return not WILDCARDS.isdisjoint(self.address)


@dataclass(slots=True)
class Packet:
    """What one datagram held: its messages in order, and why the rest was refused, a reason per refusal."""

    messages: list[Message] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


class _Refused(Exception):
    """A message that breaks a rule; the text is the reason that is counted."""


def read_packet(datagram: bytes) -> Packet:
    """All legal messages of a datagram. Never raises; time tags are ignored: everything is for now."""
    packet = Packet()
    if datagram.startswith(BUNDLE):
        _walk_bundle(datagram, packet)
    else:
        _read_into(packet, datagram)
    return packet


def _walk_bundle(datagram: bytes, packet: Packet) -> None:
    """Visit all elements in order with a stack of [position, end] instead of recursion.

    A bundle whose framing is broken is left at the break; what stood before it counts, and so does what surrounds it.
    """
    seen = 0
    stack = [[16, len(datagram)]]
    while stack:
        position, end = stack[-1]
        if position == end:
            stack.pop()
            continue
        size = struct.unpack_from(">i", datagram, position)[0] if position + 4 <= end else -1
        if size <= 0 or size % 4 or position + 4 + size > end:
            packet.refused.append("broken bundle")
            stack.pop()
            continue
        start = position + 4
        stack[-1][0] = start + size
        if datagram.startswith(BUNDLE, start):
            if len(stack) == MAX_DEPTH:
                packet.refused.append("bundles nested too deep")
            else:
                stack.append([start + 16, start + size])
            continue
        seen += 1
        if seen > MAX_MESSAGES:
            packet.refused.append("too many messages in one packet")
            return
        _read_into(packet, datagram[start : start + size])


def _read_into(packet: Packet, raw: bytes) -> None:
    try:
        message = _read_message(raw)
        if message.is_pattern and sum(other.is_pattern for other in packet.messages) >= MAX_PATTERNS:
            raise _Refused("too many patterns in one packet")
        packet.messages.append(message)
    except _Refused as refusal:
        packet.refused.append(str(refusal))


def _read_message(raw: bytes) -> Message:
    if not raw.startswith(b"/"):
        raise _Refused("not OSC")
    if len(raw) % 4:
        raise _Refused("size is no multiple of 4")
    address = _read_address(raw)
    tags_at = _padded(len(address) + 1)
    if tags_at == len(raw):
        return Message(address=address, args=())
    tags_end = raw.find(b"\0", tags_at)
    if raw[tags_at : tags_at + 1] != b"," or tags_end < 0:
        raise _Refused("broken type tags")
    tags = raw[tags_at + 1 : tags_end].decode("latin-1")
    retyped = _retype(tags)
    # python-osc fills up a number that is cut short with zeros: a value that nobody sent.
    if sum(_LEAST_BYTES.get(tag, 4) for tag in retyped) > len(raw) - _padded(tags_end + 1):
        raise _Refused("arguments cut short")
    if retyped != tags:
        head = raw[:tags_at] + _padded_bytes(b"," + retyped.encode())
        raw = head + raw[_padded(tags_end + 1) :]
    try:
        return Message(address=address, args=tuple(OscMessage(raw).params))
    except (ParseError, UnicodeDecodeError) as error:
        broken_text = isinstance(error, UnicodeDecodeError)
        raise _Refused("text is not UTF-8" if broken_text else "broken arguments") from None


def _read_address(raw: bytes) -> str:
    end = raw.find(b"\0", 0, MAX_ADDRESS + 1)
    if end < 0:
        raise _Refused("address too long")
    address = raw[:end].decode("latin-1")
    if not (address.isascii() and address.isprintable()):
        raise _Refused("address is not printable ASCII")
    if sum(letter in WILDCARDS for letter in address) > MAX_WILDCARDS:
        raise _Refused("too many wildcards in the address")
    return address


def _retype(tags: str) -> str:
    """The type tags as python-osc can read them."""
    depth = 0
    for tag in tags:
        depth += (tag == "[") - (tag == "]")
        if depth < 0:
            raise _Refused("broken type tags")
    if depth:
        raise _Refused("broken type tags")
    if len(tags) - 2 * tags.count("[") > MAX_ARGS:
        raise _Refused("too many arguments")
    retyped = tags.translate(_RETYPED)
    if not _PLAIN_TYPES.issuperset(retyped):
        raise _Refused("argument type without meaning here")
    return retyped


def _padded(length: int) -> int:
    return -(-length // 4) * 4


def _padded_bytes(text: bytes) -> bytes:
    return text.ljust(_padded(len(text) + 1), b"\0")
