"""The stream of collected files: what a whole one says, and what is no such stream."""

from __future__ import annotations

import pytest

from omnibase.core.sandbox.collect import wire
from omnibase.core.sandbox.collect.wire import Begin, Data, Decoder, Finish, LeftOut, WireError
from omnibase.core.sandbox.spec import Outlet

OUTLETS = (
    Outlet(path="/artifacts/out", capability="ARTIFACT_WRITE", max_files=3, max_bytes=10),
    Outlet(path="/registry/out", capability="REGISTRY_WRITE", max_files=1, max_bytes=4),
)


def file(name: bytes, data: bytes, outlet: int = 0, size: int | None = None) -> bytes:
    length = len(data) if size is None else size
    return wire.HEADER.pack(1, outlet, len(name), length) + name + data


def left(name: bytes, reason: int = 1, outlet: int = 0) -> bytes:
    return wire.HEADER.pack(2, outlet, len(name), reason) + name


def read(data: bytes, step: int = 1 << 20) -> tuple[list[object], Decoder]:
    """Decodes it in parts of a size; data of one file is put together."""
    decoder, found = Decoder(OUTLETS), []
    for start in range(0, len(data), step):
        for event in decoder.feed(data[start : start + step]):
            if isinstance(event, Data):
                event = bytes(event.data)
                if found and isinstance(found[-1], bytes):
                    event = found.pop() + event
            found.append(event)
    return found, decoder


WHOLE = (
    wire.MAGIC
    + file(b"a.txt", b"hello")
    + left(b"link")
    + file(b"empty", b"")
    + file(b"x/y/\xff", b"z", 1)
    + b"\0"
)


@pytest.mark.parametrize("step", [1, 2, 7, 16, 1000])
def test_a_whole_stream_is_read_however_it_is_cut(step: int) -> None:
    found, decoder = read(WHOLE, step)

    assert found == [
        Begin(0, "a.txt", 5), b"hello", Finish(),
        LeftOut(0, "link", "is not a regular file"),
        Begin(0, "empty", 0), Finish(),
        Begin(1, "x/y/\udcff", 1), b"z", Finish(),
    ]  # fmt: skip
    assert decoder.ended


@pytest.mark.parametrize("end", range(len(WHOLE)))
def test_what_is_cut_short_has_not_ended(end: int) -> None:
    _, decoder = read(WHOLE[:end])
    assert not decoder.ended


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"OBC2\0", "it is of another version"),
        (b"\0\0\0\0", "it is of another version"),
        (wire.MAGIC + b"\0\0", "bytes after its end"),
        (wire.MAGIC + b"\3" + bytes(11), "a record of unknown kind 3"),
        (wire.MAGIC + file(b"a", b"", outlet=2), "a file of outlet 2"),
        (wire.MAGIC + wire.HEADER.pack(1, 0, 4097, 0), "a name of 4097 bytes"),
        (wire.MAGIC + file(b"a", b"", size=11), "a file of 11 bytes where 10 are left"),
        (wire.MAGIC + file(b"a", b"123456") + file(b"b", b"12345"), "5 bytes where 4 are left"),
        (wire.MAGIC + file(b"a", b"", size=1 << 63), "bytes where 10 are left"),
        (wire.MAGIC + file(b"a", b"", 1) + file(b"b", b"", 1), "too many files"),
        (wire.MAGIC + file(b"a", b"1") + file(b"a", b"2"), "a file that comes twice"),
        (wire.MAGIC + left(b"a", 0), "left out for reason 0"),
        (wire.MAGIC + left(b"a", 1 << 40), "left out for reason"),
        *(
            (wire.MAGIC + file(name, b""), "a name that no file below an outlet has")
            for name in (
                b"", b"/", b"/etc/passwd", b"a//b", b"a/", b".", b"..", b"../x", b"a/../b",
                b"a/./b", b"a\0b", b"a/" * 8 + b"b",
            )
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("step", [1, 1000])
def test_whatever_is_not_such_a_stream_is_refused(data: bytes, fault: str, step: int) -> None:
    with pytest.raises(WireError, match=fault):
        read(data, step)


def test_a_name_may_have_every_byte_that_a_file_name_may() -> None:
    name = bytes(b for b in range(1, 256) if b != ord("/"))
    found, _ = read(wire.MAGIC + file(name, b""))
    assert found == [Begin(0, name.decode("utf-8", "surrogateescape"), 0), Finish()]


def test_the_same_name_may_be_in_two_outlets() -> None:
    found, _ = read(wire.MAGIC + file(b"a", b"") + file(b"a", b"", 1))
    assert [event for event in found if isinstance(event, Begin)] == [
        Begin(0, "a", 0),
        Begin(1, "a", 0),
    ]


def test_what_is_left_out_is_bounded() -> None:
    most = wire.MAX_LEFT_OUT + len(OUTLETS)
    found, _ = read(wire.MAGIC + left(b"x") * most)
    assert len(found) == most
    with pytest.raises(WireError, match="too many files that are left out"):
        read(wire.MAGIC + left(b"x") * (most + 1))


def test_a_header_that_is_refused_keeps_nothing_of_what_follows() -> None:
    decoder = Decoder(OUTLETS)
    with pytest.raises(WireError):
        list(decoder.feed(wire.MAGIC + wire.HEADER.pack(1, 0, 65535, 0) + bytes(1 << 20)))
    assert len(decoder._head) <= wire.HEADER.size
