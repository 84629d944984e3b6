"""Any bytes are a stream of files or a `WireError`, however they are cut, and within the limits."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from omnibase.core.sandbox.collect import wire
from omnibase.core.sandbox.collect.wire import Begin, Data, Decoder, Finish, LeftOut, WireError
from omnibase.core.sandbox.spec import Outlet

OUTLETS = (
    Outlet(path="/a", capability="ARTIFACT_WRITE", max_files=3, max_bytes=40),
    Outlet(path="/b", capability="REGISTRY_WRITE", max_files=1, max_bytes=8),
)
_NAMES = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([b"a", b"a/b", b"..", b"a//b", b"/a", b"a\nb", b"\xff", b"x" * 255]),
    st.lists(st.sampled_from([b"a", b"b.c", b"..", b""]), max_size=10).map(b"/".join),
)


def _record(kind: int, outlet: int, name: bytes, number: int, data: bytes) -> bytes:
    return wire.HEADER.pack(kind, outlet, len(name), number) + name + data


_RECORDS = st.one_of(
    st.builds(
        lambda outlet, name, data: _record(1, outlet, name, len(data), data),
        st.sampled_from([0, 0, 1, 2]), _NAMES, st.binary(max_size=24),
    ),
    st.builds(
        _record, st.sampled_from([0, 1, 2, 3]), st.integers(0, 3), _NAMES,
        st.integers(0, 2**64 - 1), st.binary(max_size=8),
    ),
    st.builds(lambda name, why: _record(2, 0, name, why, b""), _NAMES, st.integers(0, 8)),
    st.just(b"\0"),
    st.binary(max_size=20),
)  # fmt: skip
_STREAMS = st.one_of(
    st.binary(max_size=80),
    st.lists(_RECORDS, max_size=8).map(lambda records: wire.MAGIC + b"".join(records)),
)


def decode(data: bytes, cuts: list[int]) -> tuple[list[object], bool, bool]:
    """Returns what came, data of a file put together; whether it ended; whether it was refused."""
    decoder, found = Decoder(OUTLETS), []
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    try:
        for start, end in pairwise(edges):
            for event in decoder.feed(data[start:end]):
                if isinstance(event, Data):
                    assert event.data
                    last = found.pop()
                    assert isinstance(last, bytes | Begin)
                    if isinstance(last, Begin):
                        found.append(last)
                        last = b""
                    found.append(last + bytes(event.data))
                else:
                    found.append(event)
    except WireError:
        return found, False, True
    assert len(decoder._head) <= wire.HEADER.size + wire.MAX_NAME
    return found, decoder.ended, False


@given(_STREAMS, st.lists(st.integers(0, 1000), max_size=6))
def test_how_it_is_cut_changes_nothing(data: bytes, cuts: list[int]) -> None:
    whole, ended, refused = decode(data, [])
    parts, ended_too, refused_too = decode(data, cuts)
    assert (ended, refused) == (ended_too, refused_too)
    if not refused:
        assert parts == whole


@given(_STREAMS)
def test_what_comes_keeps_to_the_limits_and_its_order(data: bytes) -> None:
    found, _, _ = decode(data, [])
    files: dict[int, int] = {}
    sizes: dict[int, int] = {}
    begun: Begin | None = None
    for event in found:
        if isinstance(event, Begin):
            assert begun is None
            begun = event
            files[event.outlet] = files.get(event.outlet, 0) + 1
            sizes[event.outlet] = sizes.get(event.outlet, 0) + event.size
            name = event.name.split("/")
            assert "\0" not in event.name
            assert not {"", ".", ".."} & set(name)
            assert len(name) <= wire.MAX_DEPTH
        elif isinstance(event, bytes):
            assert begun is not None
            assert len(event) <= begun.size
        elif isinstance(event, Finish):
            assert begun is not None
            begun = None
        else:
            assert isinstance(event, LeftOut)
            assert begun is None
    for number, outlet in enumerate(OUTLETS):
        assert files.get(number, 0) <= outlet.max_files
        assert sizes.get(number, 0) <= outlet.max_bytes


@given(
    st.lists(
        st.tuples(st.text("ab/", min_size=1, max_size=5).map(lambda t: t.strip("/") or "a"),
                  st.binary(max_size=12)),
        max_size=3, unique_by=lambda file: file[0],
    ),
    st.lists(st.integers(0, 1000), max_size=4),
)  # fmt: skip
def test_what_is_sent_is_read(files: list[tuple[str, bytes]], cuts: list[int]) -> None:
    good = [(name, data) for name, data in files if "//" not in name]
    stream = wire.MAGIC + b"".join(_record(1, 0, n.encode(), len(d), d) for n, d in good) + b"\0"
    found, ended, refused = decode(stream, cuts)
    assert (ended, refused) == (True, False)
    read = {}
    for event in found:
        if isinstance(event, Begin):
            name, read[event.name] = event.name, b""
        elif isinstance(event, bytes):
            read[name] = event
    assert read == dict(good)
