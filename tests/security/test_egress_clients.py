"""Clients from the package index, unmodified, against real servers: over a grant as without one.

They come to the guest as a granted directory, read-only, native modules included.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.server
import ssl
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import websockets.asyncio.server

from omnibase.core.events import EgressClosed
from tests.helpers import redis_server, registry_postgres, tls
from tests.helpers.egress import Names, unused_port
from tests.security.harness import SandboxFixture

pytestmark = [pytest.mark.egress, pytest.mark.threat("T-EXEC-07")]

PACKAGES = Path(sysconfig.get_path("platlib"))
GRANTED = [f"FILE_READ:{PACKAGES}/**", "MEMORY:250MiB"]
HEAD = b"import os, sys; sys.path.append(sys.argv[1]); port = int(sys.argv[2])\n"


def connect(*endpoints: str) -> list[str]:
    """Grants for endpoints and for the clients' packages."""
    return [*GRANTED, *(f"NETWORK_CONNECT:{endpoint}" for endpoint in endpoints)]


class Handler(http.server.BaseHTTPRequestHandler):
    """Tells the path, or the digest of what was posted."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(f"{self.path} for {self.headers['Host']}".encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(hashlib.sha256(body).hexdigest().encode())

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def https(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, str]]:
    """A server with a certificate for `api.example`; its port, and the authority's PEM."""
    context, authority = tls.certificate(tmp_path_factory.mktemp("tls"), "api.example")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        web.daemon_threads = True
        web.socket = context.wrap_socket(web.socket, server_side=True)
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield web.server_address[1], authority
        web.shutdown()
        thread.join()


HTTP_CLIENTS = {
    "requests": b"""
import requests
from requests import exceptions
client = requests.Session()
client.verify = "/tmp/ca.pem"
failure, post = exceptions.ConnectionError, lambda url, body: client.post(url, data=body)
""",
    "httpx": b"""
import httpx, ssl
client = httpx.Client(verify=ssl.create_default_context(cafile="/tmp/ca.pem"))
failure, post = httpx.ConnectError, lambda url, body: client.post(url, content=body)
""",
}

HTTP = b"""
import hashlib
here = f"https://api.example:{port}"
print(client.get(f"{here}/x").text)
for n in range(3):  # one connection, kept alive
    body = bytes([n]) * 300_000
    print(post(here, body).text == hashlib.sha256(body).hexdigest())
for host in ("other.example", "evil.test"):
    try: print(client.get(f"https://{host}:{port}/").text)
    except failure as error:
        print("certificate" if "CERTIFICATE_VERIFY_FAILED" in str(error) else "no such host")
"""


@pytest.mark.parametrize("client", HTTP_CLIENTS)
def test_https_verifies_names_and_reaches_nothing_else(
    sandbox: SandboxFixture, names: Names, https: tuple[int, str], client: str
) -> None:
    port, authority = https
    names({"api.example": ["127.0.0.1"], "other.example": ["127.0.0.1"],
           "evil.test": ["127.0.0.1"]})  # fmt: skip
    outcome = sandbox.source(
        HEAD + b"open('/tmp/ca.pem', 'w').write(sys.stdin.read())\n" + HTTP_CLIENTS[client] + HTTP,
        connect(f"*.example:{port}", f"127.0.0.1:{port}"),
        args=[str(PACKAGES), str(port)],
        stdin=authority.encode(),
        on_violation="record",
    )
    assert outcome.stdout.splitlines() == [
        f"/x for api.example:{port}", "True", "True", "True", "certificate", "no such host",
    ], outcome.finished.stderr.decode()  # fmt: skip
    outcome.assert_violation(
        f"NETWORK_CONNECT:evil.test:{port}", operation="lookup", evidence="broker"
    )
    assert [v.capability for v in outcome.violations] == [f"NETWORK_CONNECT:evil.test:{port}"]
    closed = outcome.reported(EgressClosed)
    assert {c.target for c in closed} == {f"api.example:{port}", f"other.example:{port}"}
    assert closed[0].sent_bytes + closed[1].sent_bytes > 900_000


def test_psycopg_to_postgresql_over_tls(
    sandbox: SandboxFixture, names: Names, tmp_path: Path
) -> None:
    _, authority = tls.certificate(tmp_path, "db.example")
    names({"db.example": ["127.0.0.1"], "sly.example": ["127.0.0.1"]})
    port, other = unused_port(), unused_port()
    with registry_postgres.running(port, tmp_path):
        outcome = sandbox.source(
            HEAD
            + b"""
open("/tmp/ca.pem", "w").write(sys.stdin.read())
import psycopg
def connect(host, port):
    return psycopg.connect(host=host, port=port, user="omnibase", dbname="postgres",
                           sslmode="verify-full", sslrootcert="/tmp/ca.pem", connect_timeout=10)
print(psycopg.pq.__impl__)
with connect("db.example", port) as db:
    print(db.pgconn.ssl_in_use)
    db.execute("CREATE TEMP TABLE t (n int, s text)")
    with db.cursor() as cursor:
        with cursor.copy("COPY t FROM STDIN") as copy:
            for n in range(20000): copy.write_row((n, "x" * 50))
        print(cursor.execute("SELECT count(*), sum(n) FROM t").fetchone())
        cursor.execute("SELECT * FROM t ORDER BY n")
        print(sum(len(row[1]) for row in cursor))
for host, port in (("sly.example", port), ("db.example", int(sys.argv[3]))):
    try: connect(host, port)
    except psycopg.OperationalError as error: print("certificate" in str(error))
""",
            connect(f"*.example:{port}", f"127.0.0.1:{port}"),
            args=[str(PACKAGES), str(port), str(other)],
            stdin=authority.encode(),
            on_violation="record",
        )
    assert outcome.stdout.splitlines() == [
        "binary", "True", "(20000, 199990000)", "1000000", "True", "False",
    ], outcome.finished.stderr.decode()  # fmt: skip
    outcome.assert_violation(f"NETWORK_CONNECT:db.example:{other}", operation="connect")
    assert len(outcome.violations) == 1


def test_redis(sandbox: SandboxFixture) -> None:
    port, other = unused_port(), unused_port()
    with redis_server.running(port) as server:
        outcome = sandbox.source(
            HEAD
            + b"""
import redis
client = redis.Redis('127.0.0.1', port, decode_responses=True)
with client.pipeline() as pipe:
    for n in range(2000): pipe.set(f"key:{n}", "v" * 100)
    print(len(pipe.execute()))
client.set("large", "x" * 3_000_000)
print(len(client.get("large")))
listener = client.pubsub(ignore_subscribe_messages=True)
listener.subscribe("news")
while listener.get_message(timeout=5) is not None: pass
client.publish("news", "hello")
print(listener.get_message(ignore_subscribe_messages=True, timeout=10)["data"])
try: redis.Redis('127.0.0.1', int(sys.argv[3])).ping()
except redis.ConnectionError: print("denied")
""",
            connect(f"127.0.0.1:{port}"),
            args=[str(PACKAGES), str(port), str(other)],
            on_violation="record",
        )
        assert outcome.stdout.splitlines() == ["2000", "3000000", "hello", "denied"], (
            outcome.finished.stderr.decode()
        )
        assert server.get("key:1999") == b"v" * 100
    outcome.assert_violation(f"NETWORK_CONNECT:127.0.0.1:{other}", operation="connect")
    assert len(outcome.violations) == 1


@contextmanager
def ticker(context: ssl.SSLContext) -> Iterator[int]:
    """A WebSocket server that sends 100 ticks unasked, and then back what it gets."""
    ports: list[int] = []
    started, loop, over = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

    async def handle(peer: websockets.asyncio.server.ServerConnection) -> None:
        for n in range(100):
            await peer.send(f"tick {n}")
        async for message in peer:
            await peer.send(message)

    async def serve() -> None:
        async with websockets.asyncio.server.serve(handle, "127.0.0.1", 0, ssl=context) as server:
            ports.append(server.sockets[0].getsockname()[1])
            started.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert started.wait(10)
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()


def test_websockets_both_ways(sandbox: SandboxFixture, names: Names, tmp_path: Path) -> None:
    context, authority = tls.certificate(tmp_path, "live.example")
    names({"live.example": ["127.0.0.1"]})
    with ticker(context) as port:
        outcome = sandbox.source(
            HEAD
            + b"""
import ssl, asyncio, websockets, websockets.sync.client
trust = ssl.create_default_context(cadata=sys.stdin.read())
url = f"wss://live.example:{port}/"
with websockets.sync.client.connect(url, ssl=trust) as peer:
    print(sum(peer.recv() == f"tick {n}" for n in range(100)))
    peer.send(b"y" * 900_000)
    print(len(peer.recv()))
async def main():
    async with websockets.connect(url, ssl=trust) as peer:
        for n in range(100): await peer.recv()
        async def talk():
            for n in range(200): await peer.send(str(n))
        async def listen(): return [await peer.recv() for _ in range(200)]
        return (await asyncio.gather(talk(), listen()))[1] == [str(n) for n in range(200)]
print(asyncio.run(main()))
try: websockets.sync.client.connect(f"wss://dead.example:{port}/", ssl=trust)
except OSError as error: print(type(error).__name__)
""",
            connect(f"live.example:{port}", f"127.0.0.1:{port}"),
            args=[str(PACKAGES), str(port)],
            stdin=authority.encode(),
            on_violation="record",
        )
    assert outcome.stdout.splitlines() == ["100", "900000", "True", "gaierror"], (
        outcome.finished.stderr.decode()
    )
    outcome.assert_violation(f"NETWORK_CONNECT:dead.example:{port}", evidence="broker")
    assert len(outcome.violations) == 1
