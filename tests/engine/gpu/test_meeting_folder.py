"""What a killed rank 0 leaves behind goes at the next start, and nothing else does."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from engine.gpu.meeting_folder import PREFIX, MeetingFolder, remove_orphans

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing is swept away there")


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def left_behind() -> Path:
    """The folder of a process that ended without a word."""
    program = "import os; from engine.gpu.meeting_folder import MeetingFolder; print(MeetingFolder().path, flush=True); os._exit(1)"
    environment = os.environ | {"TMPDIR": tempfile.gettempdir(), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True, check=False)
    path = Path(done.stdout.strip())
    (path / "meeting").write_bytes(b"12")
    return path


def test_the_folder_of_a_killed_process_goes_at_the_next_start(tmp_path: Path) -> None:
    path = left_behind()
    assert path.parent == tmp_path and path.is_dir()
    remove_orphans()
    assert not path.exists()


def test_folders_of_living_processes_stay(tmp_path: Path) -> None:
    own, foreign = MeetingFolder(), tmp_path / f"{PREFIX}of-somebody-else"
    foreign.mkdir()
    remove_orphans()
    assert own.path.is_dir() and foreign.is_dir()
    own.remove()
    own.remove()
    assert not own.path.exists()


def test_a_folder_that_is_locked_stays_though_its_number_is_not_known_here() -> None:
    """Another container may share the temporary folder, and not the numbers."""
    gone, own = left_behind(), MeetingFolder()
    gone.joinpath("meeting").unlink()
    gone.rmdir()
    own.path = own.path.rename(gone)
    remove_orphans()
    assert own.path.is_dir()
    own.remove()
