"""A copy of the dynamic loader that commands are started with, and nothing else.

A loader can be run as a program: ``ld.so FILE`` maps the file by itself, and the
kernel asks neither for an x bit nor whether the mount is ``noexec``. The copy
refuses that. Its entry point is a stub, which goes on to the loader's own only
where the kernel says that it serves a program as interpreter (``AT_BASE`` of
getauxval(3) is not 0), and else exits. It also looks for its libraries in a cache
of its own, so that what commands bring along and what Python has stay apart.

Layout and numbers are those of the System V ABI for x86-64 (process entry: the
stack holds argc, argv, environment and auxiliary vector) and of Linux.
"""

from __future__ import annotations

import struct
from typing import Final

from omnibase.core.sandbox import elf

__all__ = ["HOST_CACHE", "REFUSED", "guarded"]

HOST_CACHE: Final = b"/etc/ld.so.cache\0"
REFUSED: Final = 126
"""Exit code of the copy when it is run as a program; a shell's for "cannot execute"."""

_PAGE: Final = 4096
_FAR: Final = 1 << 30  # so that a jump of 32 bits reaches
_PT_LOAD, _PT_NOTE = 1, 4
_PF_READ_EXECUTE: Final = 5
_ENTRY_AT: Final = 24
_JUMP: Final = 47  # where the stub jumps to the loader's own entry point
_STUB: Final = bytes.fromhex(
    "488b0c24"  # mov rcx, [rsp]           argc
    "488d74cc10"  # lea rsi, [rsp+rcx*8+16] the environment, behind argv's NULL
    "48ad"  # lodsq
    "4885c0"  # test rax, rax
    "75f9"  # jnz lodsq                up to the environment's NULL
    "48ad"  # lodsq                    a_type
    "4892"  # xchg rdx, rax
    "48ad"  # lodsq                    a_val
    "85d2"  # test edx, edx
    "7415"  # jz refuse                AT_NULL: the end
    "83fa07"  # cmp edx, 7
    "75f1"  # jne a_type
    "4885c0"  # test rax, rax
    "740b"  # jz refuse                AT_BASE is 0
    "31d2"  # xor edx, edx             as the kernel leaves it
    "31f6"  # xor esi, esi
    "31c9"  # xor ecx, ecx
    "e900000000"  # jmp the loader's entry point
    "bf7e000000"  # refuse: mov edi, 126
    "b8e7000000"  # mov eax, 231             exit_group
    "0f05"  # syscall
    "0f0b"  # ud2
)


def guarded(data: bytes, cache: str) -> bytes:
    """Returns a copy of a loader that serves as interpreter only.

    Args:
        data: glibc's ``ld-linux-x86-64.so.2``.
        cache: Path of the library cache that it is to use, no longer than the
            usual one.

    Raises:
        ValueError: The file is not such a loader.
    """
    path = cache.encode() + b"\0"
    if len(path) > len(HOST_CACHE) or data.count(HOST_CACHE) != 1:
        raise ValueError("the loader names no library cache, or several")
    patched = bytearray(data.replace(HOST_CACHE, path.ljust(len(HOST_CACHE), b"\0")))
    headers = elf.headers(data)
    note = next((h for h in headers if h.kind == _PT_NOTE), None)
    loaded = [h for h in headers if h.kind == _PT_LOAD]
    if note is None or not loaded or note.place < loaded[-1].place:
        raise ValueError("the loader has no header to spare")
    # The segment takes the place of a note, a page away from what the loader
    # uses behind its own end.
    (entry,) = struct.unpack_from("<Q", data, _ENTRY_AT)
    offset = _up(len(data))
    address = _up(max(h.address + h.memory for h in loaded)) + _PAGE
    if max(entry, address) >= _FAR:
        raise ValueError("the loader's addresses are out of range")
    stub = bytearray(_STUB)
    struct.pack_into("<i", stub, _JUMP - 4, entry - (address + _JUMP))
    size = len(stub)
    struct.pack_into(
        "<IIQQQQQQ", patched, note.place,
        _PT_LOAD, _PF_READ_EXECUTE, offset, address, address, size, size, _PAGE,
    )  # fmt: skip
    struct.pack_into("<Q", patched, _ENTRY_AT, address)
    return bytes(patched).ljust(offset, b"\0") + bytes(stub)


def _up(value: int) -> int:
    return -(-value // _PAGE) * _PAGE
