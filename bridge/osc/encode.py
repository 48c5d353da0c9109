"""Our values as OSC datagrams, written by python-osc."""

from __future__ import annotations

from collections.abc import Sequence

from pythonosc.osc_message_builder import OscMessageBuilder

from engine.control.parameter import Value


def encode(address: str, args: Sequence[bool | int | float | str] = ()) -> bytes:
    """One message. A toggle goes as 1 or 0, which every host reads; a large whole number as int64."""
    builder = OscMessageBuilder(address=address)
    for arg in args:
        if isinstance(arg, bool):
            builder.add_arg(int(arg), builder.ARG_TYPE_INT)
        elif isinstance(arg, int):
            builder.add_arg(arg, builder.ARG_TYPE_INT if -(2**31) <= arg < 2**31 else builder.ARG_TYPE_INT64)
        elif isinstance(arg, float):
            builder.add_arg(arg, builder.ARG_TYPE_FLOAT)
        else:
            builder.add_arg(arg.replace("\0", ""), builder.ARG_TYPE_STRING)
    return bytes(builder.build().dgram)


def encode_value(address: str, value: Value) -> bytes:
    """A parameter's value as one message: a list as that many arguments, a trigger as none."""
    if value is None:
        return encode(address)
    return encode(address, value if isinstance(value, tuple) else (value,))
