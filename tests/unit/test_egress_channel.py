"""The host's end of the channel: a frame for which there is no room is not lost."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from omnibase.core.sandbox.egress import wire
from omnibase.core.sandbox.egress.channel import Channel


@pytest.fixture
def channel() -> Iterator[Channel]:
    """A channel whose socket takes small messages alone: to a large one it says EMSGSIZE."""
    made = Channel()
    made._host.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, wire.PIECE * 2)
    yield made
    made.close()


def test_what_finds_no_room_is_sent_in_pieces(channel: Channel) -> None:
    data = os.urandom(wire.MAX_PAYLOAD)
    channel.transmit(memoryview(wire.encode(wire.DATA, 7, 0, data)))
    channel.send(wire.END, 7)
    assert channel.waiting == wire.MAX_PAYLOAD // wire.PIECE + 1
    frames = []
    while channel.waiting:
        channel.flush()
        while True:
            try:
                frames.append(wire.decode(channel.guest.recv(wire.MAX_FRAME)))
            except BlockingIOError:
                break
    assert frames.pop() == wire.Frame(wire.END, 7)
    assert b"".join(bytes(frame.payload) for frame in frames) == data


def test_nothing_is_kept_for_a_guest_that_is_gone(channel: Channel) -> None:
    channel.transmit(wire.encode(wire.DATA, 7, 0, bytes(wire.MAX_PAYLOAD)))
    assert channel.waiting
    channel.guest.close()
    channel.flush()
    channel.send(wire.END, 7)
    assert not channel.waiting
    assert channel.receive() is None
    assert channel.gone
