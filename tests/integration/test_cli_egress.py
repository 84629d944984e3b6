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
    assert (
        "denied  NETWORK_CONNECT:a.example:*  once: lookup" in said.err and f"{seen}\n" in said.err
    )
    assert "cannot grant NETWORK_CONNECT:a.example:*; name the ports that are needed" in said.err
    out = tmp_path / "caps.json"
    said = omnibase("sandbox", "learn", path, *granted, "-o", out)
    assert "never grantable  NETWORK_CONNECT:a.example:*" in said.err
    assert "; name the ports that are needed" in said.err
    said = omnibase("sandbox", "run", path, "--allow", "NETWORK_CONNECT:a.example:80")
    assert (said.code, said.text[:7], said.err) == (0, "198.18.", "")
