"""Who is let in: the table of hosts and origins."""

from __future__ import annotations

import pytest

from bridge.web.admission import Admission

HERE = Admission(host="127.0.0.1")
OPEN = Admission(host="0.0.0.0", token="secret")
LAN = Admission(host="192.168.1.5", token="secret")


@pytest.mark.parametrize(
    ("rules", "host", "admitted"),
    [
        (HERE, "127.0.0.1:8000", True),
        (HERE, "localhost:8000", True),
        (HERE, "LOCALHOST", True),
        (HERE, "[::1]:8000", True),
        (HERE, "evil.example", False),
        (HERE, "127.0.0.1.evil.example", False),
        (HERE, "localhost.evil.example:8000", False),
        (HERE, "192.168.1.5:8000", False),
        (HERE, "127.0.0.1@evil.example", False),
        (HERE, "", False),
        (HERE, "[", False),
        (LAN, "192.168.1.5:8000", True),
        (LAN, "192.168.1.6:8000", False),
        (OPEN, "192.168.1.6:8000", True),
        (OPEN, "evil.example:8000", False),
    ],
)
def test_hosts(rules: Admission, host: str, admitted: bool) -> None:
    assert (rules.refusal(host=host, origin="", writes=False) == "") is admitted


@pytest.mark.parametrize(
    ("origin", "admitted"),
    [
        ("", True),
        ("http://127.0.0.1:8000", True),
        ("http://127.0.0.1:8001", False),
        ("http://evil.example", False),
        ("null", False),
        ("file://127.0.0.1:8000", False),
    ],
)
def test_origins_of_writing_requests(origin: str, admitted: bool) -> None:
    assert (HERE.refusal(host="127.0.0.1:8000", origin=origin, writes=True) == "") is admitted


def test_tokens() -> None:
    assert HERE.knows("") and HERE.knows("anything")
    assert OPEN.knows("", "secret") and OPEN.knows("secret")
    assert not OPEN.knows("") and not OPEN.knows("secre", "Secret", "größer")
