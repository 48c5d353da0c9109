"""Tables of figures: on the terminal, as judge.md and as judge.json."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

Cell = str | float | int | None


@dataclass(frozen=True)
class Figures:
    """One table: `columns` heads, `rows` of cells under them, `notes` as plain sentences below it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = field(default_factory=tuple)


def text_of(cell: Cell) -> str:
    """A cell as it is read: three decimals, nothing for None."""
    if cell is None:
        return ""
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)


def percent(share: float) -> str:
    """A share of 1 as a percentage."""
    return f"{100 * share:.1f} %"


def show(console: Console, figures: Figures) -> None:
    """Print one table."""
    table = Table(*figures.columns, title=figures.title, title_justify="left")
    for row in figures.rows:
        table.add_row(*(text_of(cell) for cell in row))
    console.print(table)
    for note in figures.notes:
        console.print(f"  {note}")


def markdown(figures: Figures) -> str:
    """One table in Markdown, notes below."""
    lines = [f"## {figures.title}", "", "| " + " | ".join(figures.columns) + " |", "|" + "---|" * len(figures.columns)]
    lines += ["| " + " | ".join(text_of(cell).replace("|", "\\|") for cell in row) + " |" for row in figures.rows]
    return "\n".join([*lines, "", *(f"* {note}" for note in figures.notes), ""])


def write(folder: Path, facts: dict[str, Cell], sections: dict[str, list[Figures]]) -> None:
    """judge.json and judge.md into `folder`. Sections of an earlier run stay if its facts were the same."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "judge.json"
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    kept = earlier.get("sections", {}) if earlier.get("facts") == facts else {}
    measured = {**kept, **{name: [asdict(figures) for figures in found] for name, found in sections.items()}}
    path.write_text(json.dumps({"facts": facts, "sections": measured}, indent=2) + "\n", encoding="utf-8")
    head = ["# How the embedded model does", "", *(f"* {name}: {text_of(value)}" for name, value in facts.items()), ""]
    body = [markdown(Figures(**figures)) for found in measured.values() for figures in found]
    (folder / "judge.md").write_text("\n".join([*head, *body]), encoding="utf-8")
