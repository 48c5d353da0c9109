"""The page itself: HTML, style and script as files, put together into one text without outside resources."""

from __future__ import annotations

import functools
import importlib.resources
import json
import secrets

from bridge.osc.addresses import addresses_of
from engine.control.parameter import Parameter
from engine.control.table import TABLE


def compose_page() -> tuple[str, str]:
    """The HTML with style, script and the parameter table inside, and the content security policy that fits it."""
    nonce = secrets.token_urlsafe(12)
    policy = (
        f"default-src 'none'; img-src 'self' data:; connect-src 'self'; style-src 'nonce-{nonce}'; "
        f"script-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return _with_everything_inside().replace("@NONCE@", nonce), policy


def control_rows() -> list[dict[str, object]]:
    """What the script needs to know of each parameter that can be set, in table order."""
    return [_control(row) for row in TABLE if not row.read_only]


def _control(row: Parameter) -> dict[str, object]:
    return {
        "name": row.name,
        "group": row.group,
        "kind": row.kind.value,
        "doc": row.doc,
        "default": row.default,
        "range": row.range,
        "choices": row.choices,
        "unit": row.unit,
        "logarithmic": row.logarithmic,
        "longest": row.longest,
        "osc": addresses_of(row)[0],
    }


@functools.cache
def _with_everything_inside() -> str:
    files = importlib.resources.files(__name__)
    text = {name: files.joinpath(name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js")}
    table = json.dumps(control_rows()).replace("<", "\\u003c")  # no text of the table can end the script element
    page = text["page.html"].replace("@STYLE@", text["page.css"])
    return page.replace("@SCRIPT@", text["page.js"]).replace("@TABLE@", table)
