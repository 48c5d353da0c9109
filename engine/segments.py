"""Named shared-memory segments: made, attached, and swept away when their maker died. Knows nothing of what lies in them.

POSIX-only calls (flock, posix_fallocate, kill) stand here behind platform checks; Windows frees segments by itself.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import tempfile
import threading
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

if sys.platform != "win32":
    import fcntl

PREFIX = "phosphene"
_MEMORY = Path("/dev/shm")
"""Where Linux shows segments as files. Elsewhere an empty mark file in the temporary folder stands for each of them."""


class NoSharedMemory(RuntimeError):
    """The machine has too little shared memory left; the text says how to give it more."""


class Fence:
    """Keeps stores before it from mixing with loads after it.

    Python has no memory fence; taking and giving back free locks is an atomic read-modify-write in each of its
    implementations, and two in a row let no store or load cross.
    """

    def __init__(self) -> None:
        self._first, self._second = threading.Lock(), threading.Lock()

    def __call__(self) -> None:
        with self._first:
            pass
        with self._second:
            pass


class _Memory(SharedMemory):
    def close(self) -> None:
        """As in SharedMemory, but a mapping that somebody still looks at stays, quietly, until he lets go."""
        with contextlib.suppress(BufferError):
            super().close()


class Segment:
    """One mapped segment. Its maker holds a lock on its mark for life, by which the next start tells dead from living."""

    def __init__(self, memory: SharedMemory, mark: int | None = None) -> None:
        self._memory, self._mark = memory, mark
        self.name = memory.name

    @property
    def buffer(self) -> memoryview:
        """All its bytes, writable."""
        if self._memory.buf is None:
            raise ValueError(f"the shared memory {self.name} is closed")
        return self._memory.buf

    def close(self) -> None:
        """Let go of the mapping; one that somebody still looks at stays until he lets go."""
        self._memory.close()

    def remove(self) -> None:
        """Take the name away (the maker does that once) and let go."""
        self.close()
        _unlink(self.name, self._memory)
        if self._mark is not None:
            os.close(self._mark)
            self._mark = None


def create(purpose: str, size: int) -> Segment:
    """A new segment of `size` bytes, zeroed, named after this process. Raises NoSharedMemory."""
    name = f"{PREFIX}_{os.getpid()}_{purpose}{secrets.token_hex(2)}"
    _check_room(size)
    memory = _Memory(name=name, create=True, size=size)
    if sys.platform == "win32":
        return Segment(memory)
    mark = os.open(_mark_of(name), os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
    segment = Segment(memory, mark)
    if _MEMORY.is_dir() and sys.platform != "darwin":
        try:  # pages that are only promised would end in SIGBUS, in the middle of a frame, once the folder is full
            os.posix_fallocate(mark, 0, size)
        except OSError:
            segment.remove()
            raise _too_little(size) from None
    return segment


def attach(name: str) -> Segment:
    """The segment that another process made. Raises FileNotFoundError if it is gone."""
    if sys.version_info >= (3, 13):
        return Segment(_Memory(name=name, track=False))
    return Segment(_Memory(name=name))


def remove_named(names: tuple[str, ...]) -> None:
    """Take these names away, whoever made them: for a process whose maker died before it could do so itself."""
    for name in names:
        with contextlib.suppress(OSError):
            _unlink(name, _Memory(name=name))


def present() -> list[str]:
    """Names of all segments of this program on the machine, dead or alive; empty on Windows."""
    if sys.platform == "win32":
        return []
    return sorted(path.name for path in _folder().glob(f"{PREFIX}_[0-9]*_*"))


def remove_orphans() -> list[str]:
    """Remove the segments of processes that are no more; their names. Does nothing on Windows, which does so itself."""
    if sys.platform == "win32":
        return []
    return [name for name in present() if _orphaned(name) and _remove_orphan(name)]


def is_gone(pid: str) -> bool:
    """Whether no process that this one can see has that number; False if it is no number, and always on Windows, which is not asked."""
    if sys.platform == "win32":
        return False  # there the question itself would end the process
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, ValueError, OverflowError):
        return False
    return False


def _folder() -> Path:
    return _MEMORY if _MEMORY.is_dir() else Path(tempfile.gettempdir())


def _mark_of(name: str) -> Path:
    return _folder() / name


def _check_room(size: int) -> None:
    if sys.platform != "win32" and _MEMORY.is_dir():
        state = os.statvfs(_MEMORY)
        if state.f_bavail * state.f_frsize < size:
            raise _too_little(size)


def _too_little(size: int) -> NoSharedMemory:
    return NoSharedMemory(
        f"this machine has less than the {size / 2**20:.0f} MiB of shared memory that the frames need; give it more "
        "(docker: --shm-size=1g) or choose a smaller size"
    )


def _unlink(name: str, memory: SharedMemory) -> None:
    with contextlib.suppress(FileNotFoundError):
        memory.unlink()
    if sys.platform != "win32":
        with contextlib.suppress(FileNotFoundError):
            _mark_of(name).unlink()


if sys.platform != "win32":

    def _orphaned(name: str) -> bool:
        # Both signs are needed: the process number may belong to another container, the lock may not be taken yet.
        if not is_gone(name.split("_")[1]):
            return False
        try:
            mark = os.open(_mark_of(name), os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(mark)
        return True

    def _remove_orphan(name: str) -> bool:
        try:
            memory = _Memory(name=name)
        except (OSError, ValueError):  # gone, or empty because its maker died in the middle
            with contextlib.suppress(OSError):
                _mark_of(name).unlink()
            return True
        memory.close()
        _unlink(name, memory)
        return True
