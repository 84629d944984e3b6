"""Whatever comes over the trace's socket, decoding it is bounded and raises `WireError` only."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from omnibase.core.sandbox.monitor import wire
from omnibase.core.sandbox.monitor.wire import Message, MessageType, WireError
from tests.helpers import protobuf as pb
from tests.helpers.datagrams import CAPTURED

KINDS = sorted(
    value for name, value in vars(MessageType).items() if not name.startswith("_")
)  # fmt: skip

numbers = st.integers(0, 40)
values = st.one_of(
    st.integers(0, (1 << 64) - 1),
    st.binary(max_size=200),
    st.text(max_size=50).map(lambda text: text.encode("utf-8", "replace")),
)
messages = st.recursive(
    st.lists(st.tuples(numbers, values), max_size=8).map(lambda rows: pb.message(*rows)),
    lambda inner: st.lists(st.tuples(numbers, st.one_of(values, inner)), max_size=8).map(
        lambda rows: pb.message(*rows)
    ),
    max_leaves=4,
)


def assert_bounded(message: Message | None) -> None:
    if message is None:
        return
    for text in (message.process_name, message.cwd, message.path, message.fd_path):
        assert len(text) <= 4096
    assert len(message.address) <= 128
    assert len(message.argv) <= 64
    assert all(len(argument) <= 4096 for argument in message.argv)
    for number in (message.group_id, message.errno, message.sysno, message.flags, message.kind):
        assert 0 <= number < 1 << 64
    assert -(1 << 63) <= message.result < 1 << 64


@given(st.binary(max_size=2000))
def test_random_datagrams(datagram: bytes) -> None:
    try:
        kind, dropped, body = wire.split(datagram)
        assert 0 <= dropped < 1 << 32
        assert_bounded(wire.decode(kind, body))
    except WireError:
        pass


@given(st.sampled_from(KINDS), st.one_of(st.binary(max_size=2000), messages))
def test_random_bodies_of_known_types(kind: int, body: bytes) -> None:
    with contextlib.suppress(WireError):
        assert_bounded(wire.decode(kind, body))


@given(
    st.sampled_from(sorted(CAPTURED)),
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), max_size=6),
    st.integers(0, 500),
)
def test_real_datagrams_damaged(name: str, damage: list[tuple[int, int]], cut: int) -> None:
    datagram = bytearray(CAPTURED[name])
    for position, byte in damage:
        datagram[position % len(datagram)] = byte
    del datagram[max(1, len(datagram) - cut % 20) :]
    try:
        kind, _, body = wire.split(bytes(datagram))
        assert_bounded(wire.decode(kind, body))
    except WireError:
        pass


@given(st.one_of(st.binary(max_size=200), messages))
def test_random_handshakes(datagram: bytes) -> None:
    with contextlib.suppress(WireError):
        wire.check_handshake(datagram)


@given(
    path=st.binary(max_size=300),
    errno=st.integers(0, 4095),
    flags=st.integers(0, (1 << 64) - 1),
    group=st.integers(0, (1 << 31) - 1),
)
def test_what_is_encoded_is_decoded(path: bytes, errno: int, flags: int, group: int) -> None:
    body = pb.message((1, pb.context(group)), (2, pb.failure(errno)), (6, path), (7, flags))
    assert wire.decode(MessageType.OPEN, body) == Message(
        type=MessageType.OPEN,
        group_id=group,
        process_name="python3",
        cwd="/tmp",
        errno=errno,
        path=path.decode("utf-8", "surrogateescape"),
        flags=flags,
    )


@given(st.binary(max_size=600))
def test_the_header_is_read_whatever_follows(body: bytes) -> None:
    datagram = pb.datagram(MessageType.OPEN, body, dropped=7)
    assert wire.split(datagram) == (MessageType.OPEN, 7, body)
