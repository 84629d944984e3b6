"""The loader's name and the search paths of ELF files, synthetic and real."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import pytest

from omnibase.core.sandbox import elf

LOADER = b"/lib64/ld-linux-x86-64.so.2\0"
DT_NEEDED, DT_RPATH, DT_RUNPATH, DT_NULL = 1, 15, 29, 0


def build(*, loader: bytes | None = LOADER, dynamic: list[tuple[int, int]] | None = None) -> bytes:
    """Makes an ELF file of a header, program headers, and what they point to."""
    contents: list[tuple[int, bytes]] = [(1, b"code")]
    if loader is not None:
        contents.append((3, loader))
    if dynamic is not None:
        contents.append((2, b"".join(struct.pack("<qQ", *entry) for entry in dynamic)))
    offset = 64 + 56 * len(contents)
    headers, bodies = b"", b""
    for kind, body in contents:
        headers += struct.pack(
            "<IIQQQQQQ", kind, 4, offset + len(bodies), 0, 0, len(body), len(body), 1
        )
        bodies += body
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, len(contents), 0, 0, 0
    )
    return head + headers + bodies


def test_what_is_an_elf_file() -> None:
    assert elf.is_elf(build())
    assert not elf.is_elf(b"")
    assert not elf.is_elf(b"#!/bin/sh\n")
    assert not elf.is_elf(b"\x7fELF\x01\x01")  # 32 bits
    assert not elf.is_elf(b"\x7fELF\x02\x02")  # big-endian


@pytest.mark.parametrize("work", [elf.interpreter, elf.without_search_paths])
def test_other_files_are_refused(work: object) -> None:
    with pytest.raises(ValueError, match="not a 64-bit little-endian ELF file"):
        work(b"#!/bin/sh\n")  # type: ignore[operator]


def test_the_loader_is_found() -> None:
    assert elf.interpreter(build()) == "/lib64/ld-linux-x86-64.so.2"
    assert elf.interpreter(build(loader=None)) is None


def test_a_library_names_itself() -> None:
    assert elf.is_library(build(dynamic=[(DT_NEEDED, 1), (14, 5), (DT_NULL, 0)]))
    assert not elf.is_library(build(dynamic=[(DT_NEEDED, 1), (DT_NULL, 0), (14, 5)]))
    assert not elf.is_library(build())


def test_the_loader_is_exchanged() -> None:
    changed = elf.with_interpreter(build(), "/commands/loader")
    assert elf.interpreter(changed) == "/commands/loader"
    assert len(changed) == len(build())
    assert elf.with_interpreter(build(loader=None), "/x") == build(loader=None)
    with pytest.raises(ValueError, match="too long"):
        elf.with_interpreter(build(), "/lib64/ld-linux-x86-64.so.22")


def test_a_segment_beyond_the_end_is_refused() -> None:
    for size in (len(build()) - 1, 70, 60):
        with pytest.raises(ValueError, match="truncated"):
            elf.headers(build()[:size])


def test_search_paths_are_switched_off_and_nothing_else() -> None:
    before = [(DT_NEEDED, 1), (DT_RPATH, 2), (DT_RUNPATH, 3), (DT_NULL, 0), (DT_RPATH, 9)]
    after = [(DT_NEEDED, 1), (0x6000000D, 2), (0x6000000D, 3), (DT_NULL, 0), (DT_RPATH, 9)]
    assert elf.without_search_paths(build(dynamic=before)) == build(dynamic=after)


@pytest.mark.parametrize("dynamic", [None, [(DT_NEEDED, 1)], [(DT_NULL, 0)]])
def test_files_without_search_paths_stay_as_they_are(
    dynamic: list[tuple[int, int]] | None,
) -> None:
    data = build(dynamic=dynamic)
    assert elf.without_search_paths(data) == data


def test_the_running_interpreter() -> None:
    binary = Path(os.path.realpath(sys.executable)).read_bytes()
    loader = elf.interpreter(binary)
    assert loader is not None
    assert Path(loader).exists()
    patched = elf.without_search_paths(binary)
    assert len(patched) == len(binary)
    assert elf.without_search_paths(patched) == patched
