"""Any bytes as an ELF file: an answer or a `ValueError`, and no more memory than the file has."""

from __future__ import annotations

import struct
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from omnibase.core.sandbox import elf
from omnibase.core.sandbox.commands import loader
from omnibase.core.sandbox.commands.finding import HOST_LOADER

LOADER = Path(HOST_LOADER).read_bytes()
HEADER = struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
SHAPED = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + HEADER
RECORDS = st.lists(
    st.tuples(st.sampled_from([1, 2, 3, 4]), st.integers(0, 2**64 - 1), st.integers(0, 300)),
    min_size=2, max_size=2,
)  # fmt: skip


def shaped(rows: list[tuple[int, int, int]], offset: int, rest: bytes) -> bytes:
    """Two program headers, of which one says something odd, and what is behind them."""
    (kind, size, _), (other, _, place) = rows
    table = struct.pack("<IIQQQQQQ", kind, 5, offset, 0, 0, size, size, 1)
    return SHAPED + table + struct.pack("<IIQQQQQQ", other, 5, place, 0, 0, 24, 24, 1) + rest


@given(st.binary(max_size=400) | st.builds(shaped, RECORDS, st.integers(0, 400), st.binary(
    max_size=200)))  # fmt: skip
def test_any_bytes(data: bytes) -> None:
    for work in (
        elf.headers, elf.interpreter, elf.without_search_paths,
        lambda data: elf.with_interpreter(data, "/x"), lambda data: loader.guarded(data, "/x"),
    ):  # fmt: skip
        try:
            result = work(data)
        except ValueError:
            continue
        assert not isinstance(result, bytes) or len(result) <= len(data) + 8192


@given(st.integers(0, 1000), st.integers(0, 255))
def test_a_loader_with_a_byte_changed(place: int, value: int) -> None:
    data = bytearray(LOADER)
    data[place] = value
    try:
        guarded = loader.guarded(bytes(data), "/x")
    except ValueError:
        return
    assert len(guarded) < len(LOADER) + 8192
    # Its entry point is the stub, at the end of the file.
    (entry,) = struct.unpack_from("<Q", guarded, 24)
    segment = next(h for h in elf.headers(guarded) if h.address == entry and h.kind == 1)
    assert segment.offset + segment.size == len(guarded)
