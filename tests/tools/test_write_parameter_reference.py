"""That the written parameter reference is the table's, and that a stale page is noticed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from engine.control.table import TABLE

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "write_parameter_reference.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(TOOL), *arguments], capture_output=True, text=True, timeout=60)


def test_the_page_in_the_repository_is_fresh() -> None:
    found = run("--check")
    assert found.returncode == 0, found.stderr


def test_a_stale_or_missing_page_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "PARAMETERS.md"
    assert run("--check", "--page", str(page)).returncode == 1
    assert run("--page", str(page)).returncode == 0
    assert run("--check", "--page", str(page)).returncode == 0
    page.write_text(page.read_text(encoding="utf-8").replace("strength", "strenght"), encoding="utf-8")
    stale = run("--check", "--page", str(page))
    assert stale.returncode == 1 and "stale" in stale.stderr


def test_every_parameter_has_a_row_of_all_columns() -> None:
    lines = (ROOT / "engine" / "control" / "PARAMETERS.md").read_text(encoding="utf-8").splitlines()
    for row in TABLE:
        [line] = [line for line in lines if line.startswith(f"| `{row.name}` |")]
        assert line.count(" | ") == 9 and row.doc in line
