"""The record of a training run: rows that add up over runs, also over runs that note more than the ones before."""

import csv
import math
from pathlib import Path

from embedded.card import curve_table, read_record, stage_table
from embedded.record import TrainingRecord


def record(path: Path, *, spent: float = 0.0) -> TrainingRecord:
    return TrainingRecord(path, title="styling", budget_seconds=60, spent_seconds=spent)


def test_rows_of_a_run_that_is_taken_up_again_follow_those_before(tmp_path: Path) -> None:
    path = tmp_path / "styling.csv"
    with record(path) as first:
        first.note(step=10, values={"contrast": 2.0, "told": 0.5})
    with record(path, spent=30.0) as second:
        second.note(step=20, values={"contrast": 1.0, "told": 0.75})
        assert 0.5 <= second.fraction <= 1
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["10", "20"] and float(rows[1]["seconds"]) >= 30 and rows[1]["told"] == "0.75"


def test_what_a_later_run_notes_besides_gets_a_column_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "styling.csv"
    with record(path) as first:
        first.note(step=10, values={"contrast": 2.0, "places": 0.7})
    with record(path) as second:
        second.note(step=20, values={"contrast": 1.0, "mesh": 0.25, "places": 0.6})
        second.note(step=30, values={"contrast": 0.5})
    rows = read_record(path)
    assert [row["contrast"] for row in rows] == [2.0, 1.0, 0.5] and [row["step"] for row in rows] == [10, 20, 30]
    assert math.isnan(rows[0]["mesh"]) and rows[1]["mesh"] == 0.25 and math.isnan(rows[2]["places"])


def test_the_card_s_tables_take_a_record_with_columns_missing(tmp_path: Path) -> None:
    (tmp_path / "styling.csv").write_text("step,seconds,contrast,places\n10,60,2,0.5\n20,120,1,0.25\n", encoding="utf-8")
    assert "| styling | 20 | 2 | contrast 1, places 0.25 |" in stage_table(tmp_path)
    last = curve_table(tmp_path, "styling").splitlines()[-1]
    assert last.startswith("| to 2 | 1 |") and "0.25" in last and "nan" not in last
