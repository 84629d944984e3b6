"""The little of ELF that building an image needs: the loader's name, and search paths.

Layout and tags are the generic ABI's (System V ABI, chapters 4 and 5).
"""

from __future__ import annotations

import struct

__all__ = ["interpreter", "is_elf", "without_search_paths"]

_MAGIC = b"\x7fELF"
_PT_DYNAMIC, _PT_INTERP = 2, 3
_DT_NULL, _DT_RPATH, _DT_RUNPATH = 0, 15, 29
# An operating-system-specific tag that no loader knows, so that it is skipped.
_DT_IGNORED = 0x6000000D


def is_elf(data: bytes) -> bool:
    """Whether the bytes start a 64-bit little-endian ELF file."""
    return data[:6] == _MAGIC + b"\x02\x01"


def _segments(data: bytes) -> list[tuple[int, int, int]]:
    """Returns ``(type, file offset, size in file)`` of each program header."""
    if not is_elf(data):
        raise ValueError("not a 64-bit little-endian ELF file")
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    rows = []
    for index in range(count):
        kind, _flags, offset, _va, _pa, filesz = struct.unpack_from(
            "<IIQQQQ", data, table + index * size
        )
        rows.append((kind, offset, filesz))
    return rows


def interpreter(data: bytes) -> str | None:
    """Returns the path of the dynamic loader that the file names, if any."""
    for kind, offset, size in _segments(data):
        if kind == _PT_INTERP:
            return data[offset : offset + size].rstrip(b"\0").decode()
    return None


def without_search_paths(data: bytes) -> bytes:
    """Returns the file with ``DT_RPATH`` and ``DT_RUNPATH`` switched off.

    A library search path of the host would make the guest's loader probe host
    paths, which are indistinguishable from attempts on them.
    """
    patched = bytearray(data)
    for kind, offset, size in _segments(data):
        if kind != _PT_DYNAMIC:
            continue
        for entry in range(offset, offset + size, 16):
            (tag,) = struct.unpack_from("<q", data, entry)
            if tag == _DT_NULL:
                break
            if tag in (_DT_RPATH, _DT_RUNPATH):
                struct.pack_into("<q", patched, entry, _DT_IGNORED)
    return bytes(patched)
