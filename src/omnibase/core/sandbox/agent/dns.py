"""A name server for the guest's own loopback: it answers granted names and nothing else.

It runs inside the sandbox and uses the standard library only. No query ever
leaves the guest: a granted name gets an address of the guest's own loopback,
every other name does not exist. The wire format is that of RFC 1035.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_A, _PTR, _IN, _ANY = 1, 12, 1, 255
_NO_ERROR, _MALFORMED, _FAILED, _NO_SUCH_NAME, _NOT_IMPLEMENTED = 0, 1, 2, 3, 4
_TTL = (300).to_bytes(4, "big")
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_")
MAX_QUERY = 512


class Full(Exception):
    """There is no address left to give to a name."""


def read_question(query: bytes) -> tuple[list[bytes], int, int, int]:
    """Returns ``(labels, type, class, end of the question)`` of a query.

    Raises:
        ValueError: It is not a query with one question.
    """
    labels, at = [], 12
    while True:
        size = query[at] if at < len(query) else 64
        at += 1
        if size == 0:
            break
        # A longer one would be a pointer, for which a question has no use.
        if size > 63 or at + size > len(query) or at + size > 12 + 254:
            raise ValueError("no name")
        labels.append(query[at : at + size])
        at += size
    if at + 4 > len(query):
        raise ValueError("no type")
    kind, group = query[at] << 8 | query[at + 1], query[at + 2] << 8 | query[at + 3]
    return labels, kind, group, at + 4


def plain_name(labels: list[bytes]) -> str | None:
    """Returns a name in lower case, or ``None`` if it has characters that no host has.

    A dot *inside* a label is such a character: it would pass for two labels.
    """
    lowered = [label.lower() for label in labels]
    if not lowered or not all(_PLAIN.issuperset(label) for label in lowered):
        return None
    return b".".join(lowered).decode("ascii")


def answer(
    query: bytes,
    address_of: Callable[[str], str | None],
    name_of: Callable[[str], str | None],
    refused: Callable[[bytes, int], None],
) -> bytes | None:
    """Returns the response to a datagram, or ``None`` if it deserves none.

    Args:
        query: What came.
        address_of: Name → IPv4 address in the guest, or ``None`` if nothing grants it;
            raises `Full`.
        name_of: IPv4 address → the name that it was given to; empty if it has none and
            may be asked for; ``None`` if it may not.
        refused: Told ``(name, type)`` of what is not answered, the name as it came.
    """
    if len(query) < 12 or query[2] & 0x80:
        return None  # no query: an answer could be answered for ever
    if query[2] & 0x78:
        return _response(query, 12, _NOT_IMPLEMENTED)
    if query[4:6] != b"\0\1" or len(query) > MAX_QUERY:
        return _response(query, 12, _MALFORMED)
    try:
        labels, kind, group, end = read_question(query)
    except ValueError:
        return _response(query, 12, _MALFORMED)
    name = plain_name(labels)
    if name is not None and group == _IN and kind == _PTR:
        found = name_of(_forward(name))
        if found:
            return _response(query, end, _NO_ERROR, _PTR, _encode(found))
        if found is not None:
            return _response(query, end, _NO_SUCH_NAME)
    elif name is not None and group == _IN:
        try:
            address = address_of(name)
        except Full:
            return _response(query, end, _FAILED)
        if address is not None:
            if kind in (_A, _ANY):
                data = bytes(int(part) for part in address.split("."))
                return _response(query, end, _NO_ERROR, _A, data)
            return _response(query, end, _NO_ERROR)  # it exists, without such a record
    refused(b".".join(labels)[:255], kind)
    return _response(query, end, _NO_SUCH_NAME)


def _forward(name: str) -> str:
    """``4.3.2.1.in-addr.arpa`` → ``1.2.3.4``; nonsense stays nonsense."""
    return ".".join(reversed(name.removesuffix(".in-addr.arpa").split(".")))


def _encode(name: str) -> bytes:
    parts = [label.encode("ascii") for label in name.split(".")]
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def _response(query: bytes, end: int, code: int, kind: int = 0, data: bytes = b"") -> bytes:
    # Authoritative; recursion is said to be available, since clients ask for it.
    flags = bytes([0x84 | (query[2] & 1), 0x80 | code])
    counts = b"\0" + bytes([end > 12]) + b"\0" + bytes([bool(data)]) + bytes(4)
    record = b""
    if data:
        record = b"\xc0\x0c" + kind.to_bytes(2, "big") + b"\0\1" + _TTL
        record += len(data).to_bytes(2, "big") + data
    return query[:2] + flags + counts + query[12:end] + record
