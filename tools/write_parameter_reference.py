"""Writes engine/control/PARAMETERS.md from the parameter table; with --check it only says whether the page is stale."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from bridge.osc.addresses import ALIASES, NORMALISED, PREFIX, Means  # noqa: E402
from engine.control.parameter import NUMERIC, Kind, Parameter  # noqa: E402
from engine.control.table import TABLE  # noqa: E402

PAGE = ROOT / "engine" / "control" / "PARAMETERS.md"

HEAD = f"""# Parameters

Written by `tools/write_parameter_reference.py` from `engine/control/table.py`; edit the table, not this page.

Every parameter can be set while the show runs. Numbers outside a range are clamped; toggles, whole numbers and decimals
are taken for each other. Over OSC a parameter listens at `/<name>`, at `/<group>/<name>`, and at both with `{PREFIX}` in
front. `{NORMALISED}/<name>` takes 0 to 1 for the whole range, and the single argument `?` asks for the value.
`/subscribe [port]` sends every change to the sender's host, `/unsubscribe [port]` ends it.
"""

COLUMNS = (
    "Name", "Kind", "Range or choices", "Default", "Unit", "Smoothing", "Applies", "OSC", "Former names", "What it does",
)  # fmt: skip


def page() -> str:
    """The whole reference as Markdown."""
    parts = [HEAD]
    for group in dict.fromkeys(row.group for row in TABLE):
        rows = [row for row in TABLE if row.group == group]
        note = "\nReadouts: they can be asked for and subscribed to, not set.\n" if all(r.read_only for r in rows) else ""
        lines = [_line(COLUMNS), _line(["---"] * len(COLUMNS)), *(_line(_cells(row)) for row in rows)]
        parts.append(f"## {group.capitalize()}\n{note}\n" + "\n".join(lines) + "\n")
    parts.append("## Other addresses\n\nFormer names, and addresses that patches for StreamDiffusionTD send, are understood as well.\n")
    parts.append("\n".join([_line(("OSC", "Means")), _line(("---", "---")), *_aliases()]) + "\n")
    return "\n".join(parts)


def _cells(row: Parameter) -> list[str]:
    spellings = [f"`/{row.group}/{row.name}`"] if row.read_only else [f"`/{row.name}`", f"`/{row.group}/{row.name}`"]
    if row.kind in NUMERIC and not row.read_only:
        spellings.append(f"`{NORMALISED}/{row.name}`")
    return [
        f"`{row.name}`",
        row.kind.value + (", logarithmic" if row.logarithmic else ""),
        _range(row),
        "" if row.kind is Kind.TRIGGER else _value(row.default),
        row.unit,
        f"{row.smoothing:g} s" if row.smoothing else "",
        "" if row.read_only else row.applies.value,
        " ".join(spellings),
        " ".join(f"`{name}`" for name in row.formerly),
        row.doc,
    ]


def _range(row: Parameter) -> str:
    if row.kind is Kind.CHOICE:
        return ", ".join(f"`{choice}`" for choice in row.choices)
    if row.range is None or row.read_only:
        return ""
    low, high = (f"{end:.10g}" for end in row.range)
    return f"{low} to {high}" + (f", up to {row.longest} numbers" if row.kind is Kind.LIST else "")


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "`on`" if value else "`off`"
    if isinstance(value, tuple):
        value = " ".join(map(str, value))
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"`{text}`" if text else "empty"


def _aliases() -> list[str]:
    lines = []
    for row in TABLE:
        lines += [_line((f"`/{name}`", f"`{row.name}`")) for name in row.formerly]
    for address, target in ALIASES.items():
        meaning = {
            Means.FIXED: f"`{target.name}` {_value(target.value)}",
            Means.PROMPT_LIST: 'all prompts and weights, from JSON: `[["text", 1.0], ...]`',
            Means.STATUS: "asks for all readouts",
        }.get(target.means, f"`{target.name}`")
        lines.append(_line((f"`{address}`", meaning)))
    return lines


def _line(cells: tuple[str, ...] | list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def run(arguments: list[str]) -> int:
    """Write the page, or with --check compare it; 1 means stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, exit with 1 if the page is stale")
    parser.add_argument("--page", type=Path, default=PAGE, help="the file to write or check")
    options = parser.parse_args(arguments)
    text = page()
    if not options.check:
        options.page.write_text(text, encoding="utf-8", newline="\n")
        return 0
    if options.page.is_file() and options.page.read_text(encoding="utf-8") == text:
        return 0
    print(f"{options.page.name} is stale: run python tools/write_parameter_reference.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(run(sys.argv[1:]))
