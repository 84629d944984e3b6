"""Network grants against any bytes at all; `make fuzz` does the same for as long as you like."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from omnibase.core.sandbox.egress.reports import Closed
from tests.helpers import agent, fuzzing

_dns = fuzzing.queries(agent.load("dns"))
_HEAD = b"\xbe\xef\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"


@given(st.binary(max_size=600))
def test_messages(data: bytes) -> None:
    fuzzing.frames(data)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400))
def test_conversations(data: bytes) -> None:
    fuzzing.conversation(data)


def test_a_conversation_that_goes_well_gets_far() -> None:
    """The alphabet of conversations reaches what it is there for: a stream that is up."""
    opened = bytes([0, 0, 0, 1, 1, 7])  # a frame, OPEN, 192.0.2.7, port 80; then the peers
    sent = bytes([0, 1, 0, 2, 10, 0])  # a frame, DATA of 70,000 bytes; the peer takes it
    answered = bytes([9, 0, 1, 7])  # the peer sends 300 bytes
    ended = bytes([0, 5, 0, 12, 0, 7])  # a frame, END; so does the peer
    reports = fuzzing.conversation(opened + sent * 20 + answered + ended)
    closed = reports[-1]
    assert isinstance(closed, Closed)
    assert (closed.sent, closed.received, closed.reason) == (1_400_000, 300, "end")


@given(st.binary(max_size=600) | st.binary(max_size=300).map(lambda rest: _HEAD + rest))
def test_queries(data: bytes) -> None:
    _dns(data)
