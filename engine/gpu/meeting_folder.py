"""The temporary folder in which the ranks of a group meet: made, removed, and swept away when its maker was killed."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from engine.segments import is_gone

if sys.platform != "win32":
    import fcntl

PREFIX = "phosphene-ranks-"


class MeetingFolder:
    """Named after this process and locked by it, so that others know whether it still lives."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self._lock = _locked(self.path)

    def remove(self) -> None:
        """Take it away, with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


def remove_orphans() -> None:
    """Take away the folders of processes that were killed before they could do so. Does nothing on Windows."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        # Both signs are needed, as with segments: the number may belong to another container, the lock may not be taken yet.
        if is_gone(path.name.removeprefix(PREFIX).split("-")[0]) and (lock := _locked(path)) is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def _locked(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock; None if another process does, or if it cannot be locked."""
    if sys.platform == "win32":
        return None
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock
