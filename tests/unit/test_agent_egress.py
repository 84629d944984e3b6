"""What the agent repeats of the host's modules, since it cannot import them, is the same."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from omnibase.core.sandbox.egress import layout, wire
from tests.helpers import agent

egress = agent.load("egress")
channel = agent.load("channel")


def test_the_frames_are_the_same() -> None:
    names = ["VERSION", "MAX_PAYLOAD", "PIECE", "WINDOW", "READY", "OPEN", "OPENED", "REFUSED",
             "DATA", "END", "RESET", "CREDIT", "LOOKUP", "ASSIGNED"]  # fmt: skip
    assert {name: getattr(channel, name) for name in names} == {
        name: getattr(wire, name) for name in names
    }
    assert channel.HEADER.format == wire.HEADER.format


def test_the_addresses_are_the_same() -> None:
    assert egress.NAMESERVER == layout.NAMESERVER
    assert f"{egress.POOL}/{egress.POOL_BITS}" == str(layout.POOL)
    assert egress.FIRST_DYNAMIC == layout.FIRST_DYNAMIC


@pytest.mark.parametrize("size", [1, wire.PIECE, wire.PIECE + 1, wire.MAX_PAYLOAD])
def test_the_pieces_of_a_frame_are_the_same(size: int) -> None:
    frame = memoryview(wire.encode(wire.DATA, 7, 0, os.urandom(size)))
    assert channel.pieces(frame) == wire.pieces(frame)


@pytest.mark.parametrize("fault", [errno.EAGAIN, errno.ENOBUFS, errno.EMSGSIZE])
def test_what_finds_no_room_waits_in_small_pieces(
    fault: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        here = channel.Channel(near.fileno())
        write = os.write

        def refuse(fd: int, data: bytes) -> int:
            if fd == near.fileno() and len(data) > wire.PIECE + wire.HEADER.size:
                raise OSError(fault, "no room")
            return write(fd, data)

        monkeypatch.setattr(os, "write", refuse)
        data = os.urandom(wire.PIECE * 2 + 1)
        here.transmit(memoryview(wire.encode(wire.DATA, 7, 0, data)))
        here.send(wire.END, 7)
        assert len(here.queue) == 4
        got = b""
        while here.queue:
            assert here.wait() is False
            while True:
                try:
                    frame = wire.decode(far.recv(wire.MAX_FRAME, socket.MSG_DONTWAIT))
                except BlockingIOError:
                    break
                got += bytes(frame.payload)
        assert frame == wire.Frame(wire.END, 7)
        assert got == data


def test_a_host_that_is_gone_is_an_error() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near:
        here = channel.Channel(near.fileno())
        far.close()
        with pytest.raises(BrokenPipeError):
            here.send(wire.READY, 0)
