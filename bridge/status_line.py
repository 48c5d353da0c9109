"""The one status line of a run: rewritten in place on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Mapping
from typing import TextIO

from engine.control.live_values import LiveValues
from engine.control.parameter import Value

PLAIN_EVERY_SECONDS = 5.0


class _LineLog(logging.Handler):
    """Log records of this program as complaints, so that they do not tear the status line."""

    def __init__(self, status: StatusLine) -> None:
        super().__init__(level=logging.WARNING)
        self._status = status

    def emit(self, record: logging.LogRecord) -> None:
        self._status.complain(record.getMessage())


@contextlib.contextmanager
def speak_through(status: StatusLine) -> Iterator[None]:
    """While it is entered, warnings and errors that are logged are complaints of `status`."""
    log = _LineLog(status)
    logging.getLogger().addHandler(log)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(log)


def status_text(readouts: Mapping[str, Value], shown_fps: float) -> str:
    """One line from the readouts of the parameter table (`LiveValues.targets`)."""
    parts = [
        f"{readouts['state']}",
        f"model {readouts['model'] or '-'}",
        f"{float(readouts['fps'] or 0.0):.1f} fps",  # type: ignore[arg-type]
        f"out {shown_fps:.1f} fps",
        f"latency {float(readouts['latency_ms'] or 0.0):.0f} ms",  # type: ignore[arg-type]
        f"dropped {readouts['dropped']}",
        f"repeated {readouts['repeated']}",
    ]
    if readouts.get("first_frame_ms"):
        parts.append(f"jitter {float(readouts['jitter_ms'] or 0.0):.0f} ms")  # type: ignore[arg-type]
    if readouts.get("deadline_misses"):
        parts.append(f"late {readouts['deadline_misses']}")
    if readouts["engine_restarts"]:
        parts.append(f"engine restarts {readouts['engine_restarts']}")
    if readouts["error"]:
        parts.append(f"error: {readouts['error']}")
    return "  ".join(parts)


class StatusLine:
    """Prints to one text stream. `say` writes a line that stays, `update` the status."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = stream or sys.stdout
        self._quiet = quiet
        self._terminal = self._stream.isatty()
        self._standing = 0
        self._printed_at: float | None = None
        self._state: Value = ""

    def say(self, text: str) -> None:
        """A line that stays."""
        if not self._quiet:
            self._write(self._clearing() + text + "\n")
            self._standing = 0

    def complain(self, text: str) -> None:
        """A line about something that went wrong, on the standard error stream, even if all else is kept back."""
        if self._standing:
            self._write(self._clearing())
            self._standing = 0
        with contextlib.suppress(OSError, ValueError):
            print(f"phosphene: {text}", file=sys.stderr, flush=True)

    def update(self, values: LiveValues, shown_fps: float, now: float) -> None:
        """Show the status at `now` (monotonic seconds); off a terminal only every few seconds or at a new state."""
        if self._quiet:
            return
        readouts = values.targets()
        if self._terminal:
            text = status_text(readouts, shown_fps)[: self._columns() - 1]
            self._write(self._clearing() + text)
            self._standing = len(text)
            return
        due = self._printed_at is None or now - self._printed_at >= PLAIN_EVERY_SECONDS
        if due or readouts["state"] != self._state:
            self._printed_at, self._state = now, readouts["state"]
            self._write(status_text(readouts, shown_fps) + "\n")

    def close(self) -> None:
        """Leave the last status standing and go to a new line."""
        if self._standing:
            self._write("\n")
            self._standing = 0

    def _clearing(self) -> str:
        return "\r" + " " * self._standing + "\r" if self._standing else ""

    def _columns(self) -> int:
        import shutil

        return shutil.get_terminal_size().columns

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            # Whoever read our output has gone; the show goes on.
            self._quiet = True
