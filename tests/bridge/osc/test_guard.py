"""The guard against bytes written out by hand, against liblo's reading of the rules, and against 40,000 hostile packets."""

from __future__ import annotations

import faulthandler
import math
import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.osc.guard import MAX_MESSAGES, Message, read_packet

HANG = b"#bundle\0" + bytes(8) + struct.pack(">i", -4)
"""20 bytes on which python-osc's own bundle reader never returns."""


@pytest.fixture
def deadline() -> object:
    """Ends the run with a traceback of the loop if something here does not end."""
    faulthandler.dump_traceback_later(120, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def text(value: str) -> bytes:
    raw = value.encode() + b"\0"
    return raw + bytes(-len(raw) % 4)


def message(address: str, tags: str = "", data: bytes = b"") -> bytes:
    return text(address) + text("," + tags) + data


def bundle(*elements: bytes, time_tag: int = 1) -> bytes:
    return b"#bundle\0" + struct.pack(">Q", time_tag) + b"".join(struct.pack(">i", len(e)) + e for e in elements)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        # The two examples of the OSC 1.0 specification, byte by byte.
        (
            bytes.fromhex("2f6f7363 696c6c61 746f722f 342f6672 65717565 6e637900 2c660000 43dc0000"),
            Message("/oscillator/4/frequency", (440.0,)),
        ),
        (
            bytes.fromhex(
                "2f666f6f 00000000 2c696973 66660000 000003e8 ffffffff 68656c6c 6f000000 3f9df3b6 40b5b22d"
            ),
            Message("/foo", (1000, -1, "hello", 1.2339999675750732, 5.677999973297119)),
        ),
        (message("/a", "TFN"), Message("/a", (True, False, None))),
        (message("/a", "hd", struct.pack(">qd", 2**40, 0.1)), Message("/a", (2**40, 0.1))),
        (message("/a", "Sf", text("sym") + struct.pack(">f", 0.5)), Message("/a", ("sym", 0.5))),
        (message("/a", "cf", struct.pack(">if", 65, 0.5)), Message("/a", (65, 0.5))),
        (message("/a", "If", struct.pack(">f", 0.5)), Message("/a", (0.5,))),
        (message("/a", "I"), Message("/a", ())),
        (message("/a", "[i[ii]]", struct.pack(">iii", 1, 2, 3)), Message("/a", (1, 2, 3))),
        (message("/a", "s", text("größer")), Message("/a", ("größer",))),
        (text("/a"), Message("/a", ())),
        (message("/a"), Message("/a", ())),
    ],
)  # fmt: skip
def test_golden_bytes(raw: bytes, expected: Message) -> None:
    packet = read_packet(raw)
    assert packet.messages == [expected]
    assert packet.refused == []


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (HANG, "broken bundle"),
        (b"", "not OSC"),
        (b"hello, world", "not OSC"),
        (b"#bundle\0", "broken bundle"),
        (bundle() + struct.pack(">i", 0), "broken bundle"),
        (bundle() + struct.pack(">i", 6) + b"/a\0\0,\0", "broken bundle"),
        (bundle() + struct.pack(">i", 400) + message("/a"), "broken bundle"),
        (message("/a", "i", b"\0\0\0\1") + b"\0", "size is no multiple of 4"),
        (message("/" + "a" * 255), "address too long"),
        (message("/a\n"), "address is not printable ASCII"),
        (b"/\xfc\0\0,\0\0\0", "address is not printable ASCII"),
        (message("/" + "*" * 5), "too many wildcards in the address"),
        (message("/a", "i" * 65, bytes(65 * 4)), "too many arguments"),
        (message("/a", "["), "broken type tags"),
        (message("/a", "]["), "broken type tags"),
        (text("/a") + b"i\0\0\0\0\0\0\1", "broken type tags"),
        (text("/a") + b",iii", "broken type tags"),
        (message("/a", "i"), "arguments cut short"),
        (message("/a", "f"), "arguments cut short"),
        (message("/a", "id", b"\0\0\0\1\0\0\0\0"), "arguments cut short"),
        (message("/a", "s", b"abcd"), "broken arguments"),
        (message("/a", "s", b"\xff\xfe\0\0"), "text is not UTF-8"),
        (message("/a", "q"), "argument type without meaning here"),
        (message("/a", "b", struct.pack(">i", -4)), "argument type without meaning here"),
    ],
)
def test_what_is_refused_and_why(raw: bytes, reason: str, deadline: object) -> None:
    packet = read_packet(raw)
    assert packet.messages == []
    assert packet.refused == [reason]


def test_a_bundle_keeps_its_order_and_ignores_time_tags() -> None:
    inner = bundle(message("/2"), message("/3"), time_tag=2**64 - 1)
    packet = read_packet(bundle(message("/1"), inner, message("/4"), time_tag=2**63))
    assert [m.address for m in packet.messages] == ["/1", "/2", "/3", "/4"]
    assert packet.refused == []


def test_a_bad_message_and_a_broken_inner_bundle_spoil_nothing_else() -> None:
    packet = read_packet(bundle(message("/1"), message("/x", "i"), HANG, message("/2")))
    assert [m.address for m in packet.messages] == ["/1", "/2"]
    assert packet.refused == ["arguments cut short", "broken bundle"]


@pytest.mark.parametrize(("depth", "kept"), [(8, 1), (9, 0), (900, 0)])
def test_nesting_ends_at_depth_eight(depth: int, kept: int) -> None:
    raw = message("/deep")
    for _ in range(depth):
        raw = bundle(raw)
    packet = read_packet(raw)
    assert len(packet.messages) == kept
    assert packet.refused == [] if kept else packet.refused == ["bundles nested too deep"]


def test_a_packet_holds_512_messages_and_16_patterns() -> None:
    packet = read_packet(bundle(*[message("/a")] * 600))
    assert len(packet.messages) == MAX_MESSAGES == 512
    assert packet.refused == ["too many messages in one packet"]
    packet = read_packet(bundle(*[message("/*")] * 20, message("/a")))
    assert [m.address for m in packet.messages] == ["/*"] * 16 + ["/a"]


def hostile_packets(count: int) -> list[bytes]:
    """Random bytes, bytes behind a slash, mutated messages, mutated bundles, bundles with a tail."""
    rng = random.Random(20_261_121)
    packets = []
    for number in range(count):
        good = message(
            rng.choice(["/strength", "/prompt", "/*/seed", "/a/b/c"]),
            "".join(rng.choices("ifshdTFNIcSbtmr[]", k=rng.randrange(6))),
            rng.randbytes(rng.randrange(0, 40, 4)),
        )
        packed = bundle(good, bundle(good, good), time_tag=rng.getrandbits(64))
        raw = bytearray([rng.randbytes(rng.randrange(64)), b"/" + rng.randbytes(40), good, packed, packed][number % 5])
        if number % 5 >= 2 and raw:
            for _ in range(rng.randrange(4)):
                raw[rng.randrange(len(raw))] = rng.randrange(256)
        packets.append(bytes(raw) + (rng.randbytes(8) if number % 5 == 4 else b""))
    return packets


def test_forty_thousand_hostile_packets(deadline: object) -> None:
    messages = refused = 0
    for raw in hostile_packets(40_000):
        packet = read_packet(raw)
        assert packet.messages or packet.refused or raw.startswith(b"#bundle")
        messages += len(packet.messages)
        refused += len(packet.refused)
        for one in packet.messages:
            assert one.address.startswith("/") and len(one.args) <= 64
            assert all(arg is None or isinstance(arg, (bool, int, float, str)) for arg in one.args)
    assert messages > 10_000 and refused > 10_000, "the packets do not cover both sides"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_any_tail_of_a_bundle_is_survived(tail: bytes) -> None:
    packet = read_packet(bundle(message("/1")) + tail)
    assert packet.messages[0] == Message("/1", ())


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.integers(-(2**31), 2**31 - 1),
            st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=20),
            st.floats(width=32, allow_nan=False),
            st.booleans(),
        ),
        max_size=10,
    )
)
def test_whatever_is_written_by_the_rules_is_read(args: list[object]) -> None:
    tags, data = "", b""
    for arg in args:
        if isinstance(arg, bool):
            tags += "T" if arg else "F"
        elif isinstance(arg, int):
            tags, data = tags + "i", data + struct.pack(">i", arg)
        elif isinstance(arg, float):
            tags, data = tags + "f", data + struct.pack(">f", arg)
        else:
            tags, data = tags + "s", data + text(str(arg))
    [read] = read_packet(message("/x", tags, data)).messages
    assert read.args == tuple(args)
    assert not any(isinstance(arg, float) and math.isnan(arg) for arg in read.args)
