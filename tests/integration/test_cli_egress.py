"""Network grants on the command line: what is said when a connection does not come about."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.cli import omnibase
from tests.helpers.egress import echo, server, unused_port

TALK = """\
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as client:
    client.settimeout(10)
    client.sendall(b"hello")
    print(client.recv(5).decode())
"""
COPES = TALK.replace("with", "try:\n  with", 1).replace("    ", "      ") + (
    "except OSError:\n  print('never mind')\n"
)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(TALK)
    return path


def test_a_granted_target_that_is_down_is_told_with_the_reason(script: Path) -> None:
    port = unused_port()
    target = f"127.0.0.1:{port}"
    command = ("sandbox", "run", script, "--allow", f"NETWORK_CONNECT:{target}")
    args = ("--", "127.0.0.1", str(port))
    said = omnibase(*command, *args)
    assert said.code == 1
    note = f"omnibase: note: {target} is granted, but was not reached, once: connection refused\n"
    assert said.err.endswith(note)
    said = omnibase(*command, "--json", *args)
    document = json.loads(said.out)
    assert (document["exit_code"], document["violations"], said.err) == (1, [], "")
    assert document["unreached"] == [{"target": target, "reason": "connection refused", "count": 1}]
    with server(echo, port=port):
        said = omnibase(*command, *args)
    assert (said.code, said.text, said.err) == (0, "hello\n", "")


def test_a_name_without_an_address(script: Path) -> None:
    said = omnibase(
        "sandbox", "run", script, "--allow", "NETWORK_CONNECT:nowhere.invalid:80",
        "--", "nowhere.invalid", "80",
    )  # fmt: skip
    assert said.code == 1
    assert said.err.endswith("was not reached, once: the name has no address\n")


def test_a_script_that_copes_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(COPES)
    port = unused_port()
    said = omnibase("sandbox", "run", path, "--allow", f"NETWORK_CONNECT:127.0.0.1:{port}",
                    "--", "127.0.0.1", str(port))  # fmt: skip
    assert (said.code, said.text, said.err) == (0, "never mind\n", "")


def test_the_hosts_localhost_is_granted_by_following_the_hint(script: Path) -> None:
    """A script that says `localhost` tries each of its addresses: each is named."""
    with server(echo) as port:
        args = ("--", "localhost", str(port))
        said = omnibase("sandbox", "run", script, *args)
        assert said.code == 121
        assert f"--allow NETWORK_CONNECT:127.0.0.1:{port}" in said.err
        allow = ("--allow", f"NETWORK_CONNECT:127.0.0.1:{port}")
        said = omnibase("sandbox", "run", script, *allow, *args)
    assert (said.code, said.text, said.err) == (0, "hello\n", "")


@pytest.mark.parametrize(
    ("granted", "seen"),
    [
        ((), "(EHOSTUNREACH)"),
        (("--allow", "NETWORK_CONNECT:b.example:80"), "(no such name)"),
    ],
)
def test_a_look_up_that_tells_no_port_says_to_name_one(
    tmp_path: Path, granted: tuple[str, ...], seen: str
) -> None:
    path = tmp_path / "script.py"
    path.write_text(
        "import socket\ntry:\n  print(socket.gethostbyname('a.example'))\n"
        "except OSError:\n  print('no')\n"
    )
    said = omnibase("sandbox", "run", path, *granted)
    assert (said.code, said.text) == (121, "no\n")
    assert "denied  NETWORK_CONNECT:a.example:*  once: lookup" in said.err
    assert f"{seen}\n" in said.err
    assert "`--allow NETWORK_CONNECT:a.example:443`" in said.err
    said = omnibase("sandbox", "run", path, "--allow", "NETWORK_CONNECT:a.example:80")
    assert (said.code, said.text[:7], said.err) == (0, "198.18.", "")


LIMITS = """\
import socket, sys, time
target = sys.argv[1], int(sys.argv[2])
kept = []
for _ in range(int(sys.argv[3])):
    try:  # a refusal may come before the connect has returned
        client = socket.create_connection(target)
        kept.append(client)
        client.settimeout(10)
        for _ in range(int(sys.argv[4])):
            client.sendall(b"x" * 1000)
            client.recv(1000)
        time.sleep(float(sys.argv[5]))
        client.sendall(b"y")
        client.recv(1)
    except OSError: pass
"""


@pytest.mark.parametrize(
    ("flags", "work", "limit", "said_text", "hint"),
    [
        (("--egress-connections", "2"), ("4", "1", "0"), "egress_connections",
         "2 connections at one time", "--egress-connections N"),
        (("--egress-bytes", "16KiB"), ("1", "30", "0"), "egress_bytes",
         "16 KiB in both directions together", "--egress-bytes SIZE"),
        (("--egress-idle", "0.5"), ("1", "1", "2"), "egress_idle_seconds",
         "0.5 s without a byte", "--egress-idle SECONDS"),
    ],
)  # fmt: skip
def test_a_limit_that_is_reached_is_named_with_its_grant(
    tmp_path: Path, flags: tuple[str, ...], work: tuple[str, ...], limit: str, said_text: str,
    hint: str,
) -> None:  # fmt: skip
    path, events = tmp_path / "script.py", tmp_path / "events.jsonl"
    path.write_text(LIMITS)
    with server(echo) as port:
        grant = f"NETWORK_CONNECT:127.0.0.1:{port}"
        command = ("sandbox", "run", path, "--allow", grant)
        args = ("--", "127.0.0.1", str(port), *work)
        said = omnibase(*command, *flags, "--events", events, *args)
        assert said.code == 0
        assert f"note: {grant} reached its limit of {said_text}\n" in said.err
        assert hint in said.err
        document = json.loads(omnibase(*command, *flags, "--json", *args).out)
        assert document["network_limits"] == [{"capability": grant, "limit": limit}]
        twin = omnibase(*command, *args)
    assert (twin.code, twin.err) == (0, "")
    told = [json.loads(line) for line in events.read_text().splitlines()]
    reasons = [
        event["data"]["reason"] for event in told
        if event["eventname"] in ("EgressFailed", "EgressClosed")
        and event["data"]["capability"] == grant
    ]  # fmt: skip
    assert any(limit in reason or reason in ("idle", "bytes") for reason in reasons)


@pytest.mark.parametrize(
    ("flag", "value", "fault"),
    [
        ("--egress-connections", "2.5", "is not a whole number"),
        ("--egress-connections", "0", "is out of range"),
        ("--egress-bytes", "many", "is not a size"),
        ("--egress-idle", "soon", "is not a number"),
        ("--egress-idle", "nan", "is out of range"),
    ],
)
def test_limits_are_checked(script: Path, flag: str, value: str, fault: str) -> None:
    said = omnibase("sandbox", "run", script, flag, value)
    assert said.code == 2
    assert f"`{flag} {value}` {fault}" in said.err
    assert "hint: " in said.err
