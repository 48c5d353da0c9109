"""Looking for NDI sources within a bounded time: the list, and the one a name means."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Self

from bridge.ndi.handles import FindHandle
from bridge.ndi.sources import NdiSource, choose, missing_text

THIS_COMPUTER = ("127.0.0.1",)
"""Asked directly, so that sources here are found where nothing announces them."""

ASKED_TIMES = 16
"""How often each address is asked. Several sending processes on one computer listen on one port, each telling
of its own senders only, and the system picks one of them per connection: many connections meet all of them."""

SETTLED_SECONDS = 0.4
"""A list that has not changed for this long is taken as whole."""

RENEW_SECONDS, MOST_RENEW_SECONDS = 1.0, 4.0
"""A search keeps the connections it got; a new one meets other processes, and new sources at once. The pause
between searches doubles up to the second number."""


class NdiSourceMissing(LookupError):
    """No source fits the name; the text names the nearest one, or what there is."""


class NdiFinder:
    """A search that goes on until `close`. For one thread at a time."""

    def __init__(self, *, extra_ips: Sequence[str] = THIS_COMPUTER) -> None:
        """extra_ips: addresses to ask directly, beside what is announced. Raises NdiUnavailable."""
        self._extra_ips = [address for address in extra_ips for _ in range(ASKED_TIMES)]
        self._handle = FindHandle(extra_ips=self._extra_ips)
        self._renew_at, self._renew_pause = time.monotonic() + RENEW_SECONDS, RENEW_SECONDS

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def sources(self, *, timeout_seconds: float = 2.0) -> list[NdiSource]:
        """The sources there are, in the order found; returns as soon as the list has settled."""
        started_at = changed_at = time.monotonic()
        found: list[NdiSource] = []
        while (now := time.monotonic()) - started_at < timeout_seconds:
            known = self._handle.sources()
            if known != found:
                found, changed_at = known, now
            if found and now - changed_at >= SETTLED_SECONDS:
                break
            self._handle.wait(timeout_seconds=min(SETTLED_SECONDS / 4, timeout_seconds))
        return found

    def look(
        self, wanted: str, *, timeout_seconds: float = 0.2, ignore: Collection[str] = ()
    ) -> NdiSource | None:
        """The source that `wanted` means as soon as it is known, or None. See `sources.choose`."""
        started_at = time.monotonic()
        while True:
            chosen = choose(self._handle.sources(), wanted, ignore=ignore)
            now = time.monotonic()
            remaining = started_at + timeout_seconds - now
            if chosen is not None or remaining <= 0:
                return chosen
            if now >= self._renew_at:
                self._renew(now)
            self._handle.wait(timeout_seconds=min(remaining, 0.1))

    def resolve(self, wanted: str, *, timeout_seconds: float = 5.0, ignore: Collection[str] = ()) -> NdiSource:
        """The source that `wanted` means. Raises NdiSourceMissing if none answers in time."""
        chosen = self.look(wanted, timeout_seconds=timeout_seconds, ignore=ignore)
        if chosen is None:
            raise NdiSourceMissing(missing_text(self._handle.sources(), wanted))
        return chosen

    def describe_missing(self, wanted: str) -> str:
        """One sentence on why `wanted` is not found now."""
        return missing_text(self._handle.sources(), wanted)

    def close(self) -> None:
        """End the search. Takes up to a third of a second if it began just now."""
        self._handle.close()

    def _renew(self, now: float) -> None:
        self.close()
        self._handle = FindHandle(extra_ips=self._extra_ips)
        self._renew_pause = min(self._renew_pause * 2, MOST_RENEW_SECONDS)
        self._renew_at = now + self._renew_pause


def list_sources(*, timeout_seconds: float = 2.0, extra_ips: Sequence[str] = THIS_COMPUTER) -> list[NdiSource]:
    """One bounded look around. Raises NdiUnavailable."""
    with NdiFinder(extra_ips=extra_ips) as finder:
        return finder.sources(timeout_seconds=timeout_seconds)


def resolve_source(
    wanted: str, *, timeout_seconds: float = 5.0, extra_ips: Sequence[str] = THIS_COMPUTER
) -> NdiSource:
    """One bounded search for a name. Raises NdiSourceMissing, NdiUnavailable."""
    with NdiFinder(extra_ips=extra_ips) as finder:
        return finder.resolve(wanted, timeout_seconds=timeout_seconds)
