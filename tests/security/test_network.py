"""No network: whatever a script tries, nothing reaches the host's listeners, and it is told."""

from __future__ import annotations

import socket

import pytest

from tests.security.harness import SandboxFixture

pytestmark = [pytest.mark.egress, pytest.mark.threat("T-EXEC-06")]


def test_nothing_gets_out(sandbox: SandboxFixture, host_address: str) -> None:
    with (
        socket.create_server((host_address, 0)) as tcp,
        socket.socket(type=socket.SOCK_DGRAM) as udp,
    ):
        udp.bind((host_address, 0))
        tcp_port, udp_port = tcp.getsockname()[1], udp.getsockname()[1]

        outcome = sandbox(
            "reach_out", args=[host_address, str(tcp_port), str(udp_port)], on_violation="record"
        )

        for server in (tcp, udp):
            server.setblocking(False)
        with pytest.raises(BlockingIOError):
            tcp.accept()
        with pytest.raises(BlockingIOError):
            udp.recv(1)
    refused = {"ENETUNREACH", "EHOSTUNREACH", "EPERM", "EACCES", "EADDRNOTAVAIL", "ENOENT",
               "EAFNOSUPPORT", "EPROTONOSUPPORT", "gaierror"}  # fmt: skip
    assert set(outcome.report.values()) <= refused, outcome.report
    for host in (host_address, "203.0.113.7", "169.254.169.254"):
        outcome.assert_violation(f"NETWORK_CONNECT:{host}:{tcp_port}", operation="connect")
    outcome.assert_violation(f"NETWORK_CONNECT:[2001:db8::1]:{tcp_port}", operation="connect")
    outcome.assert_violation(f"NETWORK_CONNECT:{host_address}:{udp_port}", operation="connect")
    outcome.assert_violation("NETWORK_CONNECT:host.example:443", operation="lookup")
    for operation in ("sendto", "sendmsg", "socket", "bind"):
        outcome.assert_violation(operation=operation)
    outcome.assert_violation("FILE_WRITE:/run/docker.sock")


def test_the_guests_own_loopback_works(sandbox: SandboxFixture) -> None:
    sandbox.source(b"""
import socket, threading
server = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=lambda: server.accept()[0].sendall(b"hello")).start()
print(socket.create_connection(server.getsockname(), timeout=5).recv(5))
""").assert_clean()


def test_a_name_look_up_is_named_in_the_traceback(sandbox: SandboxFixture) -> None:
    outcome = sandbox.source(
        b"import urllib.request\nurllib.request.urlopen('http://host.example/x', timeout=5)\n"
    )

    outcome.assert_raised()
    outcome.assert_violation("NETWORK_CONNECT:host.example:80", operation="lookup")
    assert b"NETWORK_CONNECT:host.example:80 is not granted" in outcome.finished.stderr
