"""What a training run leaves behind for people: a loss CSV and a progress line; no weights."""

import csv
import time
from collections.abc import Mapping
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor


class TrainingRecord:
    """Appends rows to a CSV and shows one progress bar over a time budget. Use as a context manager."""

    def __init__(self, path: Path, *, title: str, budget_seconds: float, spent_seconds: float) -> None:
        self.path = path
        self.budget_seconds = budget_seconds
        self.spent_before = spent_seconds
        self.started = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
        self.bar = Progress(*columns, TimeRemainingColumn())
        self.task = self.bar.add_task(title, total=budget_seconds, completed=int(spent_seconds), note="")

    def __enter__(self) -> "TrainingRecord":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    @property
    def spent_seconds(self) -> float:
        """Training time so far, earlier runs included."""
        return self.spent_before + time.monotonic() - self.started

    @property
    def fraction(self) -> float:
        """Share of the time budget used, in [0, 1]."""
        return min(self.spent_seconds / self.budget_seconds, 1.0)

    def _columns(self) -> list[str]:
        with self.path.open(newline="", encoding="utf-8") as file:
            return next(csv.reader(file), [])

    def _extend_columns(self, wanted: list[str]) -> None:
        """The file with a column for each of `wanted`; rows of a run that did not have it yet say nan."""
        known = self._columns() if self.path.exists() else []
        if missing := [name for name in wanted if name not in known]:
            rows: list[dict[str, str]] = []
            if known:
                with self.path.open(newline="", encoding="utf-8") as file:
                    rows = list(csv.DictReader(file))
            with self.path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, fieldnames=[*known, *missing], restval="nan")
                writer.writeheader()
                writer.writerows(rows)

    def note_every(self, steps: int, *, step: int, values: Mapping[str, Tensor]) -> None:
        """A note each so many steps; only then are the values fetched from the device."""
        if step % steps == 0:
            self.note(step=step, values={name: value.item() for name, value in values.items()})

    def note(self, *, step: int, values: dict[str, float]) -> None:
        """One CSV row and the same figures in the progress line."""
        shown = {"step": float(step), "seconds": round(self.spent_seconds, 1), **values}
        self._extend_columns(list(shown))
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, fieldnames=self._columns(), restval="nan").writerow({key: f"{value:.6g}" for key, value in shown.items()})
        text = " ".join(f"{key} {value:.4f}" for key, value in values.items())
        self.bar.update(self.task, completed=self.spent_seconds, note=f"step {step} {text}")
        if not self.bar.console.is_terminal:
            print(f"step {step} seconds {self.spent_seconds:.0f} {text}", flush=True)
