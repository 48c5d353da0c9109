"""Loading the NDI library, and the errors that can bring. `handles` does everything else with it."""

from __future__ import annotations

import importlib
import importlib.util
import platform
import threading
from pathlib import Path
from typing import Any

from bridge.ndi import avahi


class NdiUnavailable(RuntimeError):
    """The NDI library cannot be loaded here; the text says what to install."""


class NdiRefused(RuntimeError):
    """The NDI library would not make what was asked for; the text says why."""


class NdiNameTaken(NdiRefused):
    """Another sender on this computer has the name."""


_load_lock = threading.Lock()
_loaded: Any = None
_without_avahi = False


def load() -> Any:
    """The NDI library, loaded and initialised once a process. Raises NdiUnavailable."""
    global _loaded, _without_avahi
    with _load_lock:
        if _loaded is None:
            try:
                binding = importlib.import_module("NDIlib")
            except ImportError as error:
                if "libavahi" not in str(error):
                    raise NdiUnavailable(_remedy(error)) from error
                binding = _import_without_avahi(error)
                _without_avahi = True
            if not binding.initialize():
                raise NdiUnavailable("NDI does not run on this processor: it needs SSE4.2 or NEON")
            _loaded = binding
        return _loaded


def check() -> tuple[bool, str]:
    """Whether NDI works here, and a sentence about it for people."""
    try:
        version = str(load().version())
    except NdiUnavailable as error:
        return False, str(error)
    text = f"NDI is ready ({version}); its senders listen on every network interface of this computer"
    if platform.system() == "Linux" and (_without_avahi or not avahi.daemon_runs()):
        text += (
            "; no avahi here, so sources on this computer and at given addresses are found, but none by name on the "
            "network: apt-get install avahi-daemon libavahi-client3 brings that"
        )
    return True, text


def _import_without_avahi(error: ImportError) -> Any:
    """Import the binding again after stand-ins for the missing avahi libraries are in the process."""
    found = importlib.util.find_spec("NDIlib")
    folders = found.submodule_search_locations if found is not None else None
    libraries = sorted(Path(folders[0]).glob("libndi.so*")) if folders else []
    try:
        if not libraries:
            raise OSError("libndi is not where the package keeps it")
        avahi.load_stand_ins(libraries[0])
        return importlib.import_module("NDIlib")
    except (ImportError, OSError) as again:
        raise NdiUnavailable(_remedy(error)) from again


def _remedy(error: ImportError) -> str:
    if isinstance(error, ModuleNotFoundError):
        where = f"{platform.system()} {platform.machine()}"
        return f"NDI is not installed: pip install ndi-python (if there is a build of it for {where})"
    if platform.system() == "Linux":
        return f"NDI cannot be loaded ({error}): apt-get install libavahi-client3"
    return f"NDI cannot be loaded ({error}): install the NDI runtime from https://ndi.video"
