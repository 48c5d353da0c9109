"""Which requests are let in: right host, right origin, right token. Pure decisions on header texts."""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Admission:
    """The rules of one server. host: what it is bound to. token: needed from everybody unless empty.

    A foreign page that points its own name at this machine (DNS rebinding) still sends that name as Host, and a foreign
    page that posts here sends its Origin: both are refused.
    """

    host: str
    token: str = ""

    def refusal(self, *, host: str, origin: str, writes: bool) -> str:
        """Why a request with these headers is refused; empty if it is not. writes: it is not a GET or HEAD."""
        if not self._names_us(host):
            return "this page answers only under the address it was opened for"
        if origin and not (urlsplit(origin).scheme in ("http", "https") and urlsplit(origin).netloc == host):
            return "requests from other pages are refused" if writes or origin != "null" else ""
        return ""

    def knows(self, *tokens: str) -> bool:
        """Whether one of the tokens shown is the right one, or none is needed."""
        if not self.token:
            return True
        return any([hmac.compare_digest(shown.encode(), self.token.encode()) for shown in tokens])

    def _names_us(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in LOOPBACK_NAMES or name == self.host:
            return True
        return self.host in ("0.0.0.0", "::") and _is_ip(name)  # a rebound name is never a bare IP address


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
