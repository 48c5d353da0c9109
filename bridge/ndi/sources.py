"""Names of NDI sources: what one is called, which one a text means, which one it nearly means. No NDI here."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

ANY = "any"
"""The word that asks for the first source found."""

ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class NdiSource:
    """One source on the network. name: "HOST (stream)", empty if only the address is known. url: "host:port"."""

    name: str
    url: str

    @property
    def stream_name(self) -> str:
        """The part in parentheses: what the sender was named; the whole name if there is none."""
        start, end = self.name.find("("), self.name.rfind(")")
        return self.name[start + 1 : end] if 0 <= start < end else self.name


def as_address(text: str) -> str | None:
    """The "host:port" that `text` is, or None if it must be a source's name.

    Raises ValueError for addresses that NDI takes without a word and never connects to.
    """
    text = text.strip()
    if "://" in text:
        raise ValueError(f"an NDI address is written host:port, without a scheme, not {text!r}")
    found = ADDRESS.fullmatch(text)
    if found is None:
        return None
    if text.startswith("["):
        raise ValueError(f"NDI does not connect to the IPv6 address {text}: use the host's name or IPv4 address")
    if not 0 < int(found.group(1)) < 65536:
        raise ValueError(f"{text} has no port between 1 and 65535")
    return text


def choose(sources: Sequence[NdiSource], wanted: str, *, ignore: Collection[str] = ()) -> NdiSource | None:
    """The source `wanted` means: "any", a full name, or the part in parentheses; exact case before any case.

    ignore: full or stream names that "any" passes over (one's own senders).
    """
    wanted = wanted.strip()
    if wanted.casefold() == ANY:
        return next((each for each in sources if each.name not in ignore and each.stream_name not in ignore), None)
    folded = wanted.casefold()
    tests: tuple[Callable[[NdiSource], bool], ...] = (
        lambda each: each.name == wanted,
        lambda each: each.name.casefold() == folded,
        lambda each: each.stream_name == wanted,
        lambda each: each.stream_name.casefold() == folded,
    )
    for fits in tests:
        for each in sources:
            if fits(each):
                return each
    return None


def nearest_name(sources: Sequence[NdiSource], wanted: str) -> str | None:
    """The full name of the source whose full or stream name is nearest to `wanted`, if any is near."""
    by_text: dict[str, str] = {}
    for each in sources:
        by_text.setdefault(each.stream_name.casefold(), each.name)
        by_text.setdefault(each.name.casefold(), each.name)
    near = difflib.get_close_matches(wanted.strip().casefold(), by_text, n=1, cutoff=0.6)
    return by_text[near[0]] if near else None


def missing_text(sources: Sequence[NdiSource], wanted: str) -> str:
    """One sentence for a name that no source has: what is wrong and what there is."""
    if not sources:
        return f"no NDI source answered, so none is named {wanted!r}: is the sender running and on this network?"
    near = nearest_name(sources, wanted)
    if near is not None:
        return f"no NDI source is named {wanted!r}: did you mean {near!r}?"
    names = ", ".join(repr(each.name) for each in sources[:8])
    return f"no NDI source is named {wanted!r}: there is {names}"
