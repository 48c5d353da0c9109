"""Loading the library: with avahi missing, with everything missing, and never at import."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from pathlib import Path

import pytest

from bridge.ndi import avahi, library

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only on Linux does libndi need avahi")


@pytest.fixture
def without_avahi(tmp_path: Path) -> dict[str, str]:
    """An environment in which the two avahi libraries are found first where they cannot be loaded."""
    folder = tmp_path / "unusable"
    folder.mkdir()
    for soname in avahi.SONAMES:
        (folder / soname).write_bytes(b"")
    return {"LD_LIBRARY_PATH": f"{folder}:{os.environ.get('LD_LIBRARY_PATH', '')}"}


def test_ndi_is_ready_here():
    ok, text = library.check()
    assert ok and "NDI" in text, text


@LINUX
def test_without_avahi_the_bare_import_fails(run_script, without_avahi):
    """The ground of the next tests: in this environment avahi really is out of reach."""
    run_script(
        """
        try:
            import NDIlib
        except ImportError as error:
            assert "libavahi" in str(error), error
        else:
            raise AssertionError("avahi was found")
        """,
        with_start=False,
        environment=without_avahi,
    )


@LINUX
def test_without_avahi_pictures_still_go_out_and_in(run_script, without_avahi):
    run_script(
        """
        ok, text = library.check()
        assert ok and "avahi-daemon" in text, text
        mapped = [line for line in open("/proc/self/maps") if "libavahi" in line]
        assert mapped and all("memfd:libavahi" in line for line in mapped), mapped
        sender = SendHandle(name=name)
        receiver = ReceiveHandle(source=found(sender), receiver_name="test")
        arrives(sender, receiver, picture())
        receiver.close(); sender.close()
        """,
        environment=without_avahi,
    )


@LINUX
def test_where_no_stand_in_works_the_remedy_is_named(run_script, without_avahi):
    run_script(
        """
        import os
        del os.memfd_create
        for _ in range(2):
            assert "apt-get install libavahi-client3" in raises(NdiUnavailable, library.load)
        ok, text = library.check()
        assert not ok and "apt-get install libavahi-client3" in text
        from bridge.ndi.receiver import NdiReceiver
        from bridge.ndi.sender import NdiSender
        raises(NdiUnavailable, NdiReceiver(source="any", put=lambda *frame: None).start)
        raises(NdiUnavailable, NdiSender(name=name).start)
        """,
        environment=without_avahi,
    )


def test_where_the_package_is_missing_the_remedy_is_named(run_script):
    run_script("""
    import sys
    sys.modules["NDIlib"] = None  # as if not installed
    assert "pip install ndi-python" in raises(NdiUnavailable, library.load)
    ok, text = library.check()
    assert not ok and "pip install ndi-python" in text
    """)


def test_importing_loads_no_library(run_script):
    run_script(
        """
        import sys
        import bridge.ndi.receiver, bridge.ndi.sender, bridge.ndi.finder
        assert "NDIlib" not in sys.modules and "torch" not in sys.modules
        """,
        with_start=False,
    )


def test_only_two_files_know_the_binding():
    folder = Path(library.__file__).parent
    knows = {path.name for path in folder.glob("*.py") if "NDIlib" in path.read_text() or "load()" in path.read_text()}
    assert knows - {"receiver.py"} == {"library.py", "handles.py"}
    assert "library.load()" in (folder / "receiver.py").read_text()  # only to fail early


@LINUX
@pytest.mark.skipif(platform.machine() not in avahi.RETURN_ZERO, reason="no stand-in for this machine")
def test_the_stand_in_is_a_library_whose_functions_return_zero():
    names = [f"avahi_{number}" for number in range(40)]
    image = avahi.stand_in_library(soname="libtest.so.3", functions=names, machine=platform.machine())
    descriptor = os.memfd_create("stand-in")
    try:
        os.write(descriptor, image)
        # Another path than the stand-ins themselves use: by one path, the linker gives what it has by it.
        loaded = ctypes.CDLL(f"/proc/{os.getpid()}/fd/{descriptor}")
    finally:
        os.close(descriptor)
    for name in names:
        function = getattr(loaded, name)
        function.restype = ctypes.c_void_p
        assert function(ctypes.c_void_p(7)) is None
    with pytest.raises(AttributeError):
        _ = loaded.avahi_40
    # The linker itself knows it by its soname now: a library of that name is there without any file.
    assert ctypes.CDLL("libtest.so.3").avahi_0() == 0


def test_the_stand_in_names_its_machine():
    for machine, number in (("x86_64", 62), ("aarch64", 183)):
        image = avahi.stand_in_library(soname="a.so", functions=["f"], machine=machine)
        assert image[:4] == b"\x7fELF" and struct.unpack_from("<HH", image, 16) == (3, number)
    with pytest.raises(KeyError):
        avahi.stand_in_library(soname="a.so", functions=["f"], machine="sparc")


def test_the_functions_are_read_from_the_library():
    data = b"\0avahi_client_new\0avahi_free\0avahi_free\0libavahi-client.so.3\0xavahi_no\0"
    assert avahi.avahi_functions(data) == ["avahi_client_new", "avahi_free"]
