"""Which addresses are the host's own, by its routes."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest

from omnibase.core.sandbox.egress import routes


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1"])
def test_a_loopback_is(host: str) -> None:
    assert routes.is_own_address(ip_address(host))


class Kernel:
    """Answers as rtnetlink does."""

    def __init__(self, answer: bytes | OSError) -> None:
        self.answer = answer

    def __call__(self, *_kind: int) -> Kernel:
        return self

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def send(self, request: bytes) -> None:
        assert len(request) in (36, 48)

    def recv(self, _size: int) -> bytes:
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer


def reply(kind: int, route: int) -> bytes:
    head = routes._HEADER.pack(28, kind, 0, 1, 0)
    return head + routes._ROUTE.pack(socket.AF_INET, 32, 0, 0, 254, 0, 0, route, 0)


@pytest.mark.parametrize("host", ["8.8.8.8", "2600::1"])
@pytest.mark.parametrize(
    ("answer", "own"),
    [
        (reply(24, 1), False),
        (reply(24, 2), True),
        (reply(24, 3), True),
        (reply(24, 4), True),
        (reply(2, 0), False),
        (OSError(24, "too many open files"), True),
    ],
    ids=["unicast", "local", "broadcast", "anycast", "no route", "nobody can tell"],
)
def test_what_the_kernel_says(
    host: str, answer: bytes | OSError, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "socket", Kernel(answer))
    assert routes.is_own_address(ip_address(host)) is own
