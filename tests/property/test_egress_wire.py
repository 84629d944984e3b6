"""Any bytes are a frame or a `WireError`, and a frame is written back to the same bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from omnibase.core.sandbox.egress import wire

_HEADERS = st.builds(
    wire.HEADER.pack,
    st.sampled_from([0, 1, 1, 1, 2, 255]),
    st.integers(0, 11),
    st.one_of(st.just(0), st.integers(0, 65535)),
    st.one_of(st.just(0), st.integers(0, 2**32 - 1)),
)
_PAYLOADS = st.one_of(
    st.binary(max_size=300),
    st.integers(0, 2 * wire.WINDOW).map(lambda n: n.to_bytes(4, "little")),
    st.integers(wire.MAX_PAYLOAD - 1, wire.MAX_PAYLOAD + 2).map(bytes),
)


@given(st.one_of(st.binary(max_size=64), st.tuples(_HEADERS, _PAYLOADS).map(b"".join)))
def test_every_message_is_a_frame_or_an_error(datagram: bytes) -> None:
    try:
        frame = wire.decode(datagram)
    except wire.WireError:
        return
    assert wire.READY <= frame.kind <= wire.ASSIGNED
    assert len(frame.payload) <= wire.MAX_PAYLOAD
    payload = bytes(frame.payload)
    assert wire.encode(frame.kind, frame.stream, frame.code, payload) == datagram
