"""The little of ELF that building an image needs: the loader's name, and search paths.

Layout and tags are the generic ABI's (System V ABI, chapters 4 and 5).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = [
    "Header",
    "headers",
    "interpreter",
    "is_elf",
    "is_library",
    "is_x86_64",
    "with_interpreter",
    "without_search_paths",
]

_MAGIC = b"\x7fELF"
_PT_DYNAMIC, _PT_INTERP = 2, 3
_DT_NULL, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 0, 14, 15, 29
# An operating-system-specific tag that no loader knows, so that it is skipped.
_DT_IGNORED = 0x6000000D


def is_elf(data: bytes) -> bool:
    """Whether the bytes start a 64-bit little-endian ELF file."""
    return data[:6] == _MAGIC + b"\x02\x01"


def is_x86_64(data: bytes) -> bool:
    """Whether the bytes start a program or library for x86-64."""
    kinds, machine = (b"\x02\0", b"\x03\0"), b"\x3e\0"  # ET_EXEC, ET_DYN; EM_X86_64
    return is_elf(data) and data[16:18] in kinds and data[18:20] == machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A program header.

    Attributes:
        kind: Its type, a ``PT_`` number.
        place: Offset of the header itself.
        offset: Of its segment, in the file.
        address: Of its segment, in memory.
        size: Of its segment in the file, in bytes.
        memory: Likewise in memory.
    """

    kind: int
    place: int
    offset: int
    address: int
    size: int
    memory: int


def headers(data: bytes) -> list[Header]:
    """Returns the program headers in their order.

    Raises:
        ValueError: The file is no ELF file, or cut short.
    """
    if not is_elf(data):
        raise ValueError("not a 64-bit little-endian ELF file")
    rows = []
    try:
        (table,) = struct.unpack_from("<Q", data, 32)
        size, count = struct.unpack_from("<HH", data, 54)
        for index in range(count):
            place = table + index * size
            kind, _flags, offset, address, _pa, filesz, memsz = struct.unpack_from(
                "<IIQQQQQ", data, place
            )
            if kind in (_PT_DYNAMIC, _PT_INTERP) and offset + filesz > len(data):
                raise ValueError("a truncated ELF file")
            rows.append(
                Header(
                    kind=kind,
                    place=place,
                    offset=offset,
                    address=address,
                    size=filesz,
                    memory=memsz,
                )
            )
    except struct.error:
        raise ValueError("a truncated ELF file") from None
    return rows


def interpreter(data: bytes) -> str | None:
    """Returns the path of the dynamic loader that the file names, if any."""
    for header in headers(data):
        if header.kind == _PT_INTERP:
            return data[header.offset : header.offset + header.size].rstrip(b"\0").decode()
    return None


def is_library(data: bytes) -> bool:
    """Says whether the file has a library's name for itself, as every loader has."""
    return any(tag == _DT_SONAME for tag, _ in _dynamic(data))


def _dynamic(data: bytes) -> Iterator[tuple[int, int]]:
    """Yields ``(tag, offset of the entry)`` of the dynamic section."""
    for header in headers(data):
        if header.kind != _PT_DYNAMIC:
            continue
        for entry in range(header.offset, header.offset + header.size - 15, 16):
            (tag,) = struct.unpack_from("<q", data, entry)
            if tag == _DT_NULL:
                break
            yield tag, entry


def with_interpreter(data: bytes, path: str) -> bytes:
    """Returns the file with another loader, whose path must not be longer.

    Raises:
        ValueError: It is longer.
    """
    patched = bytearray(data)
    for header in headers(data):
        if header.kind == _PT_INTERP:
            name = path.encode() + b"\0"
            if len(name) > header.size:
                raise ValueError("the loader's path is too long")
            end = header.offset + header.size
            patched[header.offset : end] = name.ljust(header.size, b"\0")
    return bytes(patched)


def without_search_paths(data: bytes) -> bytes:
    """Returns the file with ``DT_RPATH`` and ``DT_RUNPATH`` switched off.

    A library search path of the host would make the guest's loader probe host
    paths, which are indistinguishable from attempts on them.
    """
    patched = bytearray(data)
    for tag, entry in _dynamic(data):
        if tag in (_DT_RPATH, _DT_RUNPATH):
            struct.pack_into("<q", patched, entry, _DT_IGNORED)
    return bytes(patched)
