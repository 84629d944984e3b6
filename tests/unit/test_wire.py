"""The decoder reads what a real Sentry sent, and refuses everything malformed."""

from __future__ import annotations

import pytest

from omnibase.core.sandbox.monitor import wire
from omnibase.core.sandbox.monitor.wire import Message, MessageType, WireError
from tests.helpers import protobuf as pb
from tests.helpers.datagrams import CAPTURED

SCRIPT = {"group_id": 2, "process_name": "python3.11", "cwd": "/tmp"}

DECODED = {
    "container_start": Message(type=MessageType.CONTAINER_START),
    "open_agent": Message(
        type=MessageType.OPEN, group_id=1, process_name="python3.11", cwd="/tmp", result=4,
        sysno=257, path="/etc/ld.so.cache", flags=0o2000000,
    ),
    "open_denied": Message(
        type=MessageType.OPEN, **SCRIPT, errno=13, sysno=257, path="/etc/passwd", flags=0o2000000
    ),
    "open_for_writing": Message(
        type=MessageType.OPEN, **SCRIPT, errno=13, sysno=257, path="/data/x", flags=0o2001101
    ),
    "open_creat": Message(
        type=MessageType.OPEN, **SCRIPT, errno=13, sysno=85, path="/root/x", flags=0o1101
    ),
    "openat_descriptor": Message(
        type=MessageType.OPEN, **SCRIPT, errno=2, sysno=257, path="rel", fd_path="/guest/tmp",
        flags=0o2000000,
    ),
    "chdir": Message(type=MessageType.CHDIR, **SCRIPT, errno=13, sysno=80, path="/root"),
    "execve": Message(
        type=MessageType.EXECVE, **SCRIPT, errno=13, sysno=59, path="/bin/sh",
        argv=("/bin/sh", "-c", "id"),
    ),
    "execveat": Message(
        type=MessageType.EXECVE, **SCRIPT, errno=13, sysno=322, fd_path="/guest/tmp", argv=("x",)
    ),
    "connect_inet": Message(
        type=MessageType.CONNECT, **SCRIPT, errno=113, sysno=42,
        address=bytes.fromhex("020001bbcb007105") + bytes(8),
    ),
    "connect_inet6": Message(
        type=MessageType.CONNECT, **SCRIPT, errno=113, sysno=42,
        address=bytes.fromhex("0a000050000000002001 0db8") + bytes(11) + b"\x01" + bytes(4),
    ),
    "connect_unix": Message(
        type=MessageType.CONNECT, **SCRIPT, errno=2, sysno=42,
        address=b"\x01\0/run/docker.sock\0",
    ),
    "bind": Message(
        type=MessageType.BIND, **SCRIPT, errno=99, sysno=49,
        address=bytes.fromhex("02000050cb007101") + bytes(8),
    ),
    "socket": Message(type=MessageType.SOCKET, **SCRIPT, errno=1, sysno=41, flags=17, kind=0x80003),
    "chroot": Message(type=MessageType.CHROOT, **SCRIPT, errno=1, sysno=161, path="/tmp"),
    "setuid": Message(type=MessageType.SETID, **SCRIPT, errno=1, sysno=105),
    "setresuid": Message(type=MessageType.SETRESID, **SCRIPT, errno=1, sysno=117),
    "clone": Message(type=MessageType.CLONE, **SCRIPT, result=5, sysno=56, flags=0x1200011),
    "raw_mount": Message(type=MessageType.SYSCALL_RAW, errno=1, sysno=165),
    "task_exit": Message(
        type=MessageType.TASK_EXIT, group_id=5, process_name="python3.11", result=31
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(CAPTURED))
def test_real_datagrams_are_read(name: str) -> None:
    kind, dropped, body = wire.split(CAPTURED[name])
    assert dropped == 0
    assert wire.decode(kind, body) == DECODED[name]


@pytest.mark.parametrize("name", sorted(CAPTURED))
def test_a_datagram_cut_anywhere_is_refused_or_read_in_part(name: str) -> None:
    whole = CAPTURED[name]
    full = DECODED[name]
    for size in range(len(whole)):
        try:
            kind, _, body = wire.split(whole[:size])
            part = wire.decode(kind, body)
        except WireError:
            continue
        # Cut between fields, what is read is right as far as it goes.
        assert part is not None
        for attribute in ("group_id", "process_name", "cwd", "errno", "path", "address", "argv"):
            got, all_of_it = getattr(part, attribute), getattr(full, attribute)
            assert got in (all_of_it, getattr(Message(type=0), attribute)) or (
                attribute == "argv" and all_of_it[: len(got)] == got
            )


def test_a_cut_within_any_field_is_refused() -> None:
    body = pb.message((1, pb.context()), (2, pb.failure(13)), (6, "/etc/passwd"), (7, 300))
    ends = {0}
    for number, value in ((1, pb.context()), (2, pb.failure(13)), (6, "/etc/passwd"), (7, 300)):
        ends.add(max(ends) + len(pb.field(number, value)))
    for size in range(len(body) + 1):
        if size in ends:
            assert wire.decode(MessageType.OPEN, body[:size]) is not None
        else:
            with pytest.raises(WireError):
                wire.decode(MessageType.OPEN, body[:size])


@pytest.mark.parametrize("size", range(8))
def test_a_datagram_shorter_than_its_header(size: int) -> None:
    with pytest.raises(WireError, match="shorter than its header"):
        wire.split(bytes(size))


@pytest.mark.parametrize("header_size", [0, 7, 9, 65535])
def test_an_impossible_header_size(header_size: int) -> None:
    with pytest.raises(WireError, match="impossible header size"):
        wire.split(header_size.to_bytes(2, "little") + bytes(6))


def test_a_longer_header_is_skipped_and_the_drop_count_read() -> None:
    datagram = pb.datagram(MessageType.CHDIR, b"\x32\x01/", dropped=(1 << 32) - 1, header_size=12)
    assert wire.split(datagram) == (MessageType.CHDIR, (1 << 32) - 1, b"\x32\x01/")


@pytest.mark.parametrize("body", [b"", b"anything", b"\xff" * 100])
def test_unknown_types_are_skipped_unread(body: bytes) -> None:
    assert wire.decode(0, body) is None
    assert wire.decode(65535, body) is None


@pytest.mark.parametrize(
    "datagram", [wire.HANDSHAKE, b"\x08\x02", pb.message((9, b"future"), (1, 7)), b"\x08\0\x08\x01"]
)
def test_handshakes(datagram: bytes) -> None:
    wire.check_handshake(datagram)


@pytest.mark.parametrize(
    "datagram", [b"", b"\x08", b"\x08\x00", b"\x10\x01", pb.message((1, b"1")), b"\x0f"]
)
def test_what_is_no_handshake(datagram: bytes) -> None:
    with pytest.raises(WireError):
        wire.check_handshake(datagram)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        pytest.param(b"\x30" + b"\xff" * 10 + b"\x01", "longer than 64 bits", id="varint-11-bytes"),
        pytest.param(b"\xff" * 10 + b"\x01", "longer than 64 bits", id="tag-11-bytes"),
        pytest.param(b"\x32" + b"\x80" * 10 + b"\0", "longer than 64 bits", id="length-11-bytes"),
        pytest.param(b"\x30", "truncated varint", id="no-value"),
        pytest.param(b"\x32\x05abcd", "longer than its message", id="length-past-the-end"),
        pytest.param(b"\x32" + pb.varint(1 << 63), "longer than its message", id="length-2^63"),
        pytest.param(b"\x31" + bytes(7), "longer than its message", id="short-fixed64"),
        pytest.param(b"\x35" + bytes(3), "longer than its message", id="short-fixed32"),
        pytest.param(b"\x33", "unknown wire type", id="start-group"),
        pytest.param(b"\x34", "unknown wire type", id="end-group"),
        pytest.param(b"\x36", "unknown wire type", id="wire-type-6"),
        pytest.param(b"\x37", "unknown wire type", id="wire-type-7"),
        pytest.param(pb.message((6, 5)), "number where bytes", id="path-is-a-number"),
        pytest.param(pb.message((7, b"x")), "bytes where a number", id="flags-are-bytes"),
        pytest.param(pb.message((1, 5)), "number where bytes", id="context-is-a-number"),
        pytest.param(pb.message((2, 5)), "number where bytes", id="exit-is-a-number"),
        pytest.param(pb.message((1, pb.message((4, b"2")))), "bytes where a", id="group-is-bytes"),
        pytest.param(pb.message((1, pb.message((8, 2)))), "number where bytes", id="cwd-is-number"),
        pytest.param(pb.message((2, pb.message((1, b"")))), "bytes where a", id="result-is-bytes"),
        pytest.param(pb.message((2, pb.message((2, b"")))), "bytes where a", id="errno-is-bytes"),
        pytest.param(
            pb.message((1, b"\x42\xff\x01cwd")), "longer than its message", id="nested-past-the-end"
        ),
        pytest.param(
            pb.message((1, b"\x20" + b"\xff" * 10 + b"\x01")), "64 bits", id="nested-varint"
        ),
    ],
)
def test_malformed_messages(body: bytes, problem: str) -> None:
    with pytest.raises(WireError, match=problem):
        wire.decode(MessageType.OPEN, body)


def test_a_datagram_full_of_fields_is_read() -> None:
    body = pb.field(9, 1) * (wire.MAX_DATAGRAM // 2)
    assert wire.decode(MessageType.OPEN, body) == Message(type=MessageType.OPEN)


def test_fixed_width_fields_are_skipped() -> None:
    body = b"\xa1\x06" + bytes(8) + b"\xa5\x06" + bytes(4) + pb.message((6, "/x"))
    decoded = wire.decode(MessageType.OPEN, body)
    assert decoded is not None
    assert decoded.path == "/x"


def test_a_varint_of_ten_bytes_is_cut_to_64_bits() -> None:
    decoded = wire.decode(MessageType.OPEN, b"\x38" + b"\xff" * 9 + b"\x7f")
    assert decoded is not None
    assert decoded.flags == (1 << 64) - 1


@pytest.mark.parametrize("result", [0, 1, -1, -4095, (1 << 63) - 1, -(1 << 63)])
def test_results_are_signed(result: int) -> None:
    decoded = wire.decode(MessageType.OPEN, pb.message((2, pb.message((1, result)))))
    assert decoded is not None
    assert decoded.result == result


def test_long_fields_are_cut() -> None:
    long = "x" * 20_000
    opened = wire.decode(
        MessageType.OPEN,
        pb.message((1, pb.context(cwd=long, name=long)), (5, long), (6, long)),
    )
    assert opened is not None
    for text in (opened.cwd, opened.process_name, opened.fd_path, opened.path):
        assert text == "x" * 4096
    connected = wire.decode(MessageType.CONNECT, pb.message((6, long)))
    assert connected is not None
    assert connected.address == b"x" * 128
    executed = wire.decode(MessageType.EXECVE, pb.message(*[(7, "x" * 900)] * 70))
    assert executed is not None
    assert executed.argv == ("x" * 900,) * 64


def test_bytes_that_are_no_text_survive() -> None:
    decoded = wire.decode(MessageType.OPEN, pb.message((6, b"/\xff\xc3")))
    assert decoded is not None
    assert decoded.path == "/\udcff\udcc3"


def test_the_last_of_repeated_fields_counts() -> None:
    decoded = wire.decode(MessageType.OPEN, pb.message((6, "/a"), (6, "/b"), (7, 1), (7, 2)))
    assert decoded is not None
    assert (decoded.path, decoded.flags) == ("/b", 2)


def test_unknown_fields_are_skipped_at_every_level() -> None:
    inner = pb.message((3, 1), (9, "python3"), (12, b"?"))
    body = pb.message((1, inner), (2, pb.message((7, 1), (2, 13))), (90, b"?"), (6, "/x"))
    assert wire.decode(MessageType.OPEN, body) == Message(
        type=MessageType.OPEN, process_name="python3", errno=13, path="/x"
    )
