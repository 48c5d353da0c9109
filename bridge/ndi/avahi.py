"""Empty stand-ins for the two avahi libraries libndi is linked to. Linux only; no discovery code of any kind.

libndi names libavahi-common.so.3 and libavahi-client.so.3 as needed, and the Python package does not
bring them: on a bare Debian or Ubuntu the import fails. Avahi only announces and browses on the local
network, through a daemon that such a machine does not run either. So two shared objects are written
into anonymous memory, each with the right soname and every avahi function libndi asks for, all of them
`return 0`: libndi takes that as "no avahi here", as it does where the daemon is absent. The dynamic
linker matches a needed library by the soname of what is already loaded, so no path, no root, no
compiler and no second start of the process is needed.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import struct
from pathlib import Path

SONAMES = ("libavahi-common.so.3", "libavahi-client.so.3")

# ELF machine number and the machine code of `return 0`.
RETURN_ZERO = {
    "x86_64": (62, bytes.fromhex("31c0c3")),  # xor eax, eax; ret
    "aarch64": (183, bytes.fromhex("000080d2c0035fd6")),  # mov x0, #0; ret
}

PAGE = 0x10000  # the largest page size of either machine
LOAD, DYNAMIC, GNU_STACK = 1, 2, 0x6474E551
READ_EXECUTE, READ_WRITE = 5, 6


def avahi_functions(libndi: bytes) -> list[str]:
    """The names of the avahi functions that occur as strings in libndi, sorted."""
    return sorted({name.decode() for name in re.findall(rb"\0(avahi_[a-z0-9_]+)(?=\0)", libndi)})


def stand_in_library(*, soname: str, functions: list[str], machine: str) -> bytes:
    """A 64-bit little-endian ELF shared object whose functions all return 0.

    Two segments: the tables and the code, read-only, and the dynamic section, which the linker of
    glibc before 2.35 writes to. Raises KeyError for a machine not in RETURN_ZERO.
    """
    number, code = RETURN_ZERO[machine]
    strings = b"\0" + soname.encode() + b"\0"
    name_offsets = []
    for name in functions:
        name_offsets.append(len(strings))
        strings += name.encode() + b"\0"
    count = len(functions) + 1
    # One hash bucket: every lookup walks the chain 1, 2, .. count - 1, 0.
    table = struct.pack(f"<{3 + count}I", 1, count, 1, 0, *range(2, count), 0)

    hash_at = 64 + 4 * 56
    symbols_at = _aligned(hash_at + len(table), 8)
    strings_at = symbols_at + 24 * count
    code_at = _aligned(strings_at + len(strings), 16)
    text_end = code_at + len(code)
    dynamic_at = _aligned(text_end, 16)

    function_global, any_section = 0x12, 1
    symbols = bytes(24) + b"".join(
        struct.pack("<IBBHQQ", offset, function_global, 0, any_section, code_at, len(code)) for offset in name_offsets
    )
    # DT_SONAME 14, DT_HASH 4, DT_STRTAB 5, DT_SYMTAB 6, DT_STRSZ 10, DT_SYMENT 11, DT_NULL 0
    dynamic = struct.pack("<14Q", 14, 1, 4, hash_at, 5, strings_at, 6, symbols_at, 10, len(strings), 11, 24, 0, 0)

    image = bytearray(dynamic_at + len(dynamic))
    for at, part in (
        (0, _headers(number, text_end=text_end, dynamic_at=dynamic_at, dynamic_size=len(dynamic))),
        (hash_at, table),
        (symbols_at, symbols),
        (strings_at, strings),
        (code_at, code),
        (dynamic_at, dynamic),
    ):
        image[at : at + len(part)] = part
    return bytes(image)


def _headers(machine: int, *, text_end: int, dynamic_at: int, dynamic_size: int) -> bytes:
    """ELF, 64 bit, little endian; a shared object (3) whose program headers follow at byte 64."""
    address = dynamic_at + PAGE
    start = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    start += struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, 4, 64, 0, 0)
    start += _segment(LOAD, READ_EXECUTE, 0, 0, text_end, PAGE)
    start += _segment(LOAD, READ_WRITE, dynamic_at, address, dynamic_size, PAGE)
    start += _segment(DYNAMIC, READ_WRITE, dynamic_at, address, dynamic_size, 8)
    start += _segment(GNU_STACK, READ_WRITE, 0, 0, 0, 16)
    return start


def load_stand_ins(libndi: Path) -> None:
    """Load both stand-ins into this process, where they stay. Raises OSError where that cannot work."""
    machine = platform.machine()
    if machine not in RETURN_ZERO or not hasattr(os, "memfd_create"):
        raise OSError(f"no stand-in for avahi on {platform.system()} {machine}")
    functions = avahi_functions(libndi.read_bytes())
    descriptors: list[int] = []
    try:
        for soname in SONAMES:
            descriptor = os.memfd_create(soname)
            descriptors.append(descriptor)
            os.write(descriptor, stand_in_library(soname=soname, functions=functions, machine=machine))
            # Never unloaded: libndi's calls lead here as long as the process lives. Both descriptors stay
            # open until both are loaded, or the second would get the path, hence the identity, of the first.
            ctypes.CDLL(f"/proc/self/fd/{descriptor}")
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def daemon_runs() -> bool:
    """Whether an avahi daemon answers on this machine, so that sources on the network are announced."""
    return any(Path(place).exists() for place in ("/run/avahi-daemon/socket", "/var/run/avahi-daemon/socket"))


def _aligned(position: int, step: int) -> int:
    return (position + step - 1) // step * step


def _segment(kind: int, rights: int, offset: int, address: int, size: int, alignment: int) -> bytes:
    return struct.pack("<IIQQQQQQ", kind, rights, offset, address, address, size, size, alignment)
