"""Which OSC address means which parameter: all of them follow from the table, plus a list of foreign addresses."""

from __future__ import annotations

import difflib
import enum
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from bridge.osc.patterns import PatternMatch
from engine.control.parameter import NUMERIC, Parameter
from engine.control.table import TABLE

PREFIX = "/phosphene"
NORMALISED = "/norm"


class Means(enum.Enum):
    """What a message at an address does."""

    VALUE = "value"
    """Sets or asks a parameter in its own unit, or fires it."""
    NORMALISED = "normalised"
    """Sets or asks a parameter by its place in the range, 0..1."""
    FIXED = "fixed"
    """Sets a parameter to a value that the address itself names."""
    PROMPT_LIST = "prompt list"
    """Fills all prompt slots from one JSON text."""
    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"
    STATUS = "status"
    """Asks for all readouts."""


@dataclass(frozen=True, slots=True)
class Target:
    """What an address means: an action, the parameter it acts on, and the value of a FIXED one."""

    means: Means
    name: str = ""
    value: object = None


ALIASES: Mapping[str, Target] = MappingProxyType({
    "/prompt_list": Target(Means.PROMPT_LIST),
    "/prompt_interpolation_method": Target(Means.VALUE, "prompt_blend"),
    "/latent_feedback_strength": Target(Means.VALUE, "feedback"),
    "/use_similar_image_filter": Target(Means.VALUE, "similarity_filter"),
    "/similar_image_filter_threshold": Target(Means.VALUE, "similarity_threshold"),
    "/similar_image_filter_max_skip_frame": Target(Means.VALUE, "similarity_max_skip"),
    "/use_denoising_batch": Target(Means.VALUE, "stream_batch"),
    "/frame_buffer_size": Target(Means.VALUE, "frame_buffer"),
    "/do_add_noise": Target(Means.VALUE, "add_noise"),
    "/play": Target(Means.FIXED, "freeze", False),
    "/pause": Target(Means.FIXED, "freeze", True),
    "/get_status": Target(Means.STATUS),
})  # fmt: skip
"""Addresses of StreamDiffusionTD that mean something of ours; its other ones that we know are former names in the table."""

VALUE_WORDS: Mapping[str, Mapping[str, str]] = MappingProxyType({
    "mode": {"img2img": "image_to_image", "txt2img": "text_to_image"},
    "guidance": {"initialize": "onetime"},
    "prompt_blend": {"average": "linear"},
})  # fmt: skip
"""Other programs' words for our choices."""

_COMMANDS = {"/subscribe": Means.SUBSCRIBE, "/unsubscribe": Means.UNSUBSCRIBE, "/status": Means.STATUS}


class Addresses:
    """The dictionary of all addresses. Lookup is exact; only an address with a wildcard is matched against all."""

    def __init__(self, table: Iterable[Parameter] = TABLE) -> None:
        rows = tuple(table)
        self.by_address: Mapping[str, Target] = MappingProxyType(_all_addresses(rows))
        self._by_depth: dict[int, list[tuple[str, Target]]] = {}
        for address, target in self.by_address.items():
            if target.means in (Means.VALUE, Means.NORMALISED) and not address.startswith(PREFIX + NORMALISED):
                self._by_depth.setdefault(address.count("/"), []).append((address, target))
        self._matched: OrderedDict[str, tuple[tuple[str, Target], ...]] = OrderedDict()

    def exact(self, address: str) -> Target | None:
        """What this very address means."""
        return self.by_address.get(address)

    def matching(self, pattern: str) -> tuple[tuple[str, Target], ...]:
        """(address, target) of all parameters that a pattern means, each once; commands cannot be reached this way.

        Normalised addresses answer only to a pattern that spells `/norm/` out, so `/*/strength` is never ambiguous.
        """
        if pattern not in self._matched:
            fits, found = PatternMatch(pattern), {}
            spelled = pattern.startswith(NORMALISED + "/")
            for address, target in self._by_depth.get(pattern.count("/"), ()):
                if (target.means is Means.NORMALISED) == spelled and target not in found and fits(address):
                    found[target] = address
            self._matched[pattern] = tuple((address, target) for target, address in found.items())
            if len(self._matched) > 256:
                self._matched.popitem(last=False)
        return self._matched[pattern]

    def nearest(self, address: str) -> str | None:
        """The known address most like an unknown one."""
        near = difflib.get_close_matches(address[:64], self.by_address, n=1)
        return near[0] if near else None


def addresses_of(row: Parameter) -> tuple[str, ...]:
    """All addresses at which a parameter takes its value in its own unit; the first is the one we send from."""
    own = f"/{row.group}/{row.name}" if row.read_only else f"/{row.name}"
    names = (row.name, *row.formerly)
    spellings = [own, *(f"/{name}" for name in names), *(f"/{row.group}/{name}" for name in names)]
    spellings += [PREFIX + spelling for spelling in spellings]
    spellings += [alias for alias, target in ALIASES.items() if target == Target(Means.VALUE, row.name)]
    return tuple(dict.fromkeys(spellings))


def _all_addresses(rows: tuple[Parameter, ...]) -> dict[str, Target]:
    found = dict(ALIASES)
    for row in rows:
        for address in addresses_of(row):
            target = Target(Means.VALUE, row.name)
            if found.setdefault(address, target) != target:
                raise ValueError(f"the OSC address {address} means two things")
        if row.kind in NUMERIC and not row.read_only:
            for name in (row.name, *row.formerly):
                found[f"{NORMALISED}/{name}"] = Target(Means.NORMALISED, row.name)
                found[f"{PREFIX}{NORMALISED}/{name}"] = Target(Means.NORMALISED, row.name)
    for command, means in _COMMANDS.items():
        found[command] = found[PREFIX + command] = Target(means)
    return found
