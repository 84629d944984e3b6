"""The guest's name server: what it answers, and that any bytes get a sane answer or none."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import agent

dns = agent.load("dns")
A, NS, PTR, TXT, AAAA, ANY, HTTPS = 1, 2, 12, 16, 28, 255, 65


def query(
    name: bytes | list[bytes], kind: int = A, *, flags: int = 0x0100, count: int = 1, group: int = 1
) -> bytes:
    labels = name.split(b".") if isinstance(name, bytes) else name
    question = b"".join(bytes([len(label)]) + label for label in labels if label) + b"\0"
    head = struct.pack(">HHHHHH", 0xBEEF, flags, count, 0, 0, 0)
    return head + question + struct.pack(">HH", kind, group)


class Server:
    """Knows one name."""

    def __init__(self) -> None:
        self.refused: list[tuple[bytes, int]] = []

    def address_of(self, name: str) -> str | None:
        if name == "full.example":
            raise dns.Full
        return "198.18.0.1" if name == "granted.example" else None

    def name_of(self, address: str) -> str | None:
        return {"198.18.0.1": "granted.example", "10.0.0.1": ""}.get(address)

    def ask(self, data: bytes) -> bytes | None:
        answer = dns.answer(
            data,
            self.address_of,
            self.name_of,
            lambda name, kind: self.refused.append((name, kind)),
        )
        assert answer is None or isinstance(answer, bytes)
        return answer

    def code(self, data: bytes) -> tuple[int, int]:
        """The response code, and the number of answers."""
        answer = self.ask(data)
        assert answer is not None
        assert answer[:2] == data[:2]
        assert answer[2] & 0x80
        return answer[3] & 15, int.from_bytes(answer[6:8], "big")


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.mark.parametrize("name", [b"granted.example", b"GrAnTeD.ExAmPlE"])
def test_a_granted_name_has_an_address(server: Server, name: bytes) -> None:
    asked = query(name)
    answer = server.ask(asked)
    assert answer is not None
    assert answer[12 : len(asked)] == asked[12:]  # the question, with its letters as they came
    record = answer[len(asked) :]
    assert record == b"\xc0\x0c\0\1\0\1" + (300).to_bytes(4, "big") + b"\0\4" + bytes(
        [198, 18, 0, 1]
    )
    assert server.refused == []


@pytest.mark.parametrize("kind", [AAAA, TXT, NS, HTTPS])
def test_it_has_no_other_record(server: Server, kind: int) -> None:
    assert server.code(query(b"granted.example", kind)) == (0, 0)
    assert server.refused == []


def test_any_is_an_address(server: Server) -> None:
    assert server.code(query(b"granted.example", ANY)) == (0, 1)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([b"other", b"example"], b"other.example"),
        ([b"secret-data", b"granted", b"example"], b"secret-data.granted.example"),
        ([b"granted.example"], b"granted.example"),  # one label with a dot in it
        ([b"granted", b"example\0"], b"granted.example\0"),
        ([b"\xff" * 63, b"x"], b"\xff" * 63 + b".x"),
        ([b"a" * 63] * 3 + [b"b" * 59], b".".join([b"a" * 63] * 3 + [b"b" * 59])),
        ([], b""),
    ],
)
def test_any_other_name_does_not_exist_and_is_told(
    server: Server, labels: list[bytes], told: bytes
) -> None:
    assert server.code(query(labels, TXT)) == (3, 0)
    assert server.refused == [(told, TXT)]


def test_another_class_is_refused_too(server: Server) -> None:
    assert server.code(query(b"granted.example", group=3)) == (3, 0)
    assert server.refused == [(b"granted.example", A)]


def test_when_there_are_no_addresses_left(server: Server) -> None:
    assert server.code(query(b"full.example")) == (2, 0)


def test_reverse(server: Server) -> None:
    answer = server.ask(query(b"1.0.18.198.in-addr.arpa", PTR))
    assert answer is not None
    assert answer.endswith(b"\x07granted\x07example\0")
    assert server.code(query(b"1.0.0.10.in-addr.arpa", PTR)) == (3, 0)
    assert server.refused == []
    assert server.code(query(b"8.8.8.8.in-addr.arpa", PTR)) == (3, 0)
    assert server.refused == [(b"8.8.8.8.in-addr.arpa", PTR)]


@pytest.mark.parametrize(
    "data",
    [
        query(b"a", count=0), query(b"a", count=2), query(b"granted.example")[:-1],
        query(b"granted.example")[:20], query(b"a")[:12], query(b"a")[:12] + b"\xc0\x0c\0\1\0\1",
        query([b"x" * 63] * 4), query(b"a") + bytes(512), query(b"a")[:12] + b"\x40" + bytes(80),
    ],
)  # fmt: skip
def test_malformed(server: Server, data: bytes) -> None:
    assert server.code(data) == (1, 0)
    assert server.refused == []


def test_another_operation(server: Server) -> None:
    assert server.code(query(b"a", flags=0x2800)) == (4, 0)


@pytest.mark.parametrize("data", [b"", b"x" * 11, query(b"a", flags=0x8100)])
def test_no_answer_to_what_is_no_query(server: Server, data: bytes) -> None:
    assert server.ask(data) is None


@given(
    st.one_of(
        st.binary(max_size=100),
        st.tuples(st.just(query(b"a")[:12]), st.binary(max_size=300)).map(b"".join),
    )
)
def test_any_bytes(data: bytes) -> None:
    answer = Server().ask(data)
    assert answer is None or len(answer) <= len(data) + 16 + 12
