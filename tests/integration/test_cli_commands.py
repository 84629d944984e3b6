"""Commands on the command line: granted, refused, explained, learnt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from omnibase.core.events import CommandStarted, Event, SandboxStart
from tests.helpers.cli import omnibase
from tests.helpers.components import OneComponent

ALLOW = ("--allow", "EXTERNAL_COMMAND:ls")


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(
        "import subprocess\n"
        "print(subprocess.run(['ls', '-d', '/'], capture_output=True, text=True).stdout.strip())\n"
    )
    return path


def test_run(script: Path, tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    said = omnibase("sandbox", "run", script, *ALLOW, "--events", log)
    assert (said.code, said.text, said.err) == (0, "/\n", "")
    payloads = [Event.from_json(line).data for line in log.read_text().splitlines()]
    assert CommandStarted(command="ls", count=1) in payloads
    (start,) = [data for data in payloads if isinstance(data, SandboxStart)]
    assert list(start.commands) == ["ls"] == list(start.commands_sha256)


def test_run_without_the_grant(script: Path) -> None:
    said = omnibase("sandbox", "run", script)
    assert said.code == 121
    assert "EXTERNAL_COMMAND:ls is not granted" in said.err
    assert "hint: what should be allowed, allow: --allow EXTERNAL_COMMAND:ls" in said.err
    said = omnibase("sandbox", "run", script, "--json")
    assert json.loads(said.out)["error"]["details"]["commands"].keys() == {"EXTERNAL_COMMAND:ls"}


def test_a_command_that_this_machine_has_not(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import os\ntry:\n os.execv('/tmp/tool', ['x'])\nexcept OSError: pass\n")
    said = omnibase("sandbox", "run", script)
    assert said.code == 121
    assert "no command of this machine, and so not to be granted: tool" in said.err
    assert "--allow" not in said.err


@pytest.mark.parametrize(
    ("grant", "code", "why", "hint"),
    [
        ("no-such-command", 120, "this machine has no `no-such-command`", "install it"),
        ("ldd", 120, "is a script", "grant `EXTERNAL_COMMAND:bash`"),
        ("git log*", 2, "has arguments", "`EXTERNAL_COMMAND:git`"),
        ("gi*", 2, "is a pattern", "name each command"),
        ("/usr/bin/git", 2, "is a path", "grant `EXTERNAL_COMMAND:git`"),
        ("host-python", 2, "a run without a sandbox", "--unsandboxed"),
    ],
)
def test_what_is_refused(script: Path, grant: str, code: int, why: str, hint: str) -> None:
    allow = ("--allow", f"EXTERNAL_COMMAND:{grant}")
    said = omnibase("sandbox", "run", script, *allow)
    assert (said.code, said.out) == (code, b"")
    assert why in said.err
    assert hint in said.err
    explained = omnibase("sandbox", "explain", script, *allow)
    assert explained.code == 2
    assert why in explained.err


def test_explain(script: Path) -> None:
    said = omnibase("sandbox", "explain", script, *ALLOW)
    assert (said.code, said.err) == (0, "")
    assert "nothing else can be executed" in said.text
    assert "/usr/bin/ls -> /commands/bin/ls" in said.text
    said = omnibase("sandbox", "explain", script, *ALLOW, "--json")
    document = json.loads(said.out)
    assert document["commands"] == [
        {"name": "ls", "file": "/usr/bin/ls", "target": "/commands/bin/ls"}
    ]
    (mount,) = [m for m in document["oci"]["mounts"] if m["destination"] == "/commands"]
    assert {"ro", "nosuid", "nodev"} < set(mount["options"])
    others = [m for m in document["oci"]["mounts"] if m["destination"] not in
              ("/commands", "/proc", "/dev")]  # fmt: skip
    assert all("noexec" in m["options"] for m in others)


def test_capabilities_check(tmp_path: Path) -> None:
    caps = tmp_path / "caps.json"
    caps.write_text(json.dumps([f"EXTERNAL_COMMAND:{n}" for n in ("ls", "ldd", "l*")]))
    said = omnibase("capabilities", "check", caps, "--json")
    rows = {row["capability"]: row for row in json.loads(said.out)["capabilities"]}
    assert rows["EXTERNAL_COMMAND:ls"]["problem"] is None
    assert rows["EXTERNAL_COMMAND:ldd"]["enforced"]
    assert "is a script" in rows["EXTERNAL_COMMAND:ldd"]["problem"]
    assert not rows["EXTERNAL_COMMAND:l*"]["enforced"]


def test_learn(script: Path, tmp_path: Path) -> None:
    caps = tmp_path / "caps.json"
    said = omnibase("sandbox", "learn", script, "-o", caps)
    assert "learnt  EXTERNAL_COMMAND:ls" in said.err
    said = omnibase("sandbox", "run", script, "--capabilities", caps)
    assert (said.code, said.text) == (0, "/\n")


def test_a_component_whose_policy_permits_one(script: Path, tmp_path: Path) -> None:
    report = OneComponent(
        tmp_path / "registry", script.read_bytes(),
        requires=["EXTERNAL_COMMAND:ls"],
        policies=['@id("ls") permit ExternalCommand when { resource.name == "ls" }'],
    )  # fmt: skip
    said = omnibase("run", "report", "--registry", report.directory)
    assert (said.code, said.text) == (0, "/\n"), said.err
    report.put_policy('@id("git") permit ExternalCommand when { resource.name == "git" }')
    said = omnibase("run", "report", "--registry", report.directory)
    assert (said.code, said.out) == (120, b"")
    assert "EXTERNAL_COMMAND:ls" in said.err
