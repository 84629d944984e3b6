"""`omnibase sandbox learn`: what is written covers what was tried, and nothing more."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from omnibase.cli.learn import Lesson, proposals, smallest, study
from omnibase.core.sandbox.monitor.violations import Violation
from omnibase.core.security.capabilities import Capability, CapabilitySet
from omnibase.core.security.capability_file import load_capabilities
from tests.helpers.cli import NO_RUNTIME, omnibase

_TRIES = """
import ctypes, os
def attempt(name, mode="r"):
    try:
        return open(name, mode).read()
    except OSError:
        pass
for name in ("a.csv", "b.csv", "b.csv", "c.csv"):
    attempt("{data}/" + name)
attempt("{data}/log.txt")
attempt("{data}/log.txt", "a")
attempt("{data}/*")
attempt("/proc/1/environ2/x", "w")
ctypes.CDLL(None).mount(b"a", b"b", b"c", 0, 0)
try:
    os.execv("/usr/bin/tool", ["tool"])
except OSError:
    pass
print("end")
"""


@pytest.fixture
def data() -> Iterator[Path]:
    path = Path("/srv") / f"ob-cli-{secrets.token_hex(4)}"
    path.mkdir()
    for name in ("a.csv", "b.csv", "c.csv"):
        (path / name).write_text(f"{name}\n")
    yield path
    shutil.rmtree(path)


def _script(directory: Path, source: str) -> Path:
    path = directory / "script.py"
    path.write_text(source)
    return path


def _reasons(path: Path) -> dict[str, str]:
    return {item["capability"]: item["reason"] for item in json.loads(path.read_text())[
        "capabilities"]}  # fmt: skip


def test_learn_writes_what_was_tried_and_no_more(tmp_path: Path, data: Path) -> None:
    script = _script(tmp_path, _TRIES.replace("{data}", str(data)))
    caps = tmp_path / "caps.json"
    said = omnibase("sandbox", "learn", script, "-o", caps, "--allow", f"FILE_READ:{data}/a.csv")
    assert (said.code, said.out) == (0, b"end\n"), said.err
    reasons = _reasons(caps)
    assert set(reasons) == {
        f"FILE_READ:{data}/a.csv",
        f"FILE_READ:{data}/b.csv",
        f"FILE_READ:{data}/c.csv",
        f"FILE_WRITE:{data}/log.txt",
        "EXTERNAL_COMMAND:tool",
    }
    assert reasons[f"FILE_READ:{data}/a.csv"] == "given"
    assert reasons[f"FILE_READ:{data}/b.csv"].startswith("tried 2 times: open by python")
    assert reasons[f"FILE_WRITE:{data}/log.txt"].startswith("tried 2 times: ")
    assert load_capabilities(caps) == CapabilitySet.parse(reasons)
    assert f"never grantable  open ({data}/*)  no capability names exactly this" in said.err
    assert "never grantable  mount" in said.err
    assert "1 given, 4 learnt" in said.err
    assert f"`{data}/log.txt` does not exist" in said.err
    assert list(tmp_path.glob("*.tmp")) == []


def test_what_is_learnt_can_be_used_as_it_is(tmp_path: Path, data: Path) -> None:
    script = _script(tmp_path, f"""
try:
    print(open("{data}/a.csv").read(), end="")
    open("{data}/none")
except OSError:
    print("denied")
""")  # fmt: skip
    caps = tmp_path / "caps.json"
    flags = ("--rounds", "3", "--grant-while-learning", "--usable-only")
    said = omnibase("sandbox", "learn", script, "-o", caps, *flags)
    assert (said.code, said.out) == (0, b"denied\na.csv\ndenied\n")
    assert f"left    FILE_READ:{data}/none" in said.err
    assert list(_reasons(caps)) == [f"FILE_READ:{data}/a.csv"]
    said = omnibase("sandbox", "run", script, "--capabilities", caps, "--on-violation", "record")
    assert said.out == b"a.csv\ndenied\n"


def test_rounds_grant_reading_only_and_only_when_told(tmp_path: Path, data: Path) -> None:
    script = _script(tmp_path, f"""
import sys
if open("{data}/a.csv").read():
    open("{data}/b.csv", "w").write("changed")
""")  # fmt: skip
    caps = tmp_path / "caps.json"
    said = omnibase("sandbox", "learn", script, "-o", caps, "--rounds", "2", **NO_RUNTIME)
    assert said.code == 2
    assert "`--rounds` needs `--grant-while-learning`" in said.err
    assert not caps.exists()
    said = omnibase("sandbox", "learn", script, "-o", caps, "--rounds", "9",
                    "--grant-while-learning", "--json")  # fmt: skip
    report = json.loads(said.out)
    assert (said.code, report["rounds"]) == (0, 2)
    assert {row["capability"] for row in report["learnt"]} == {
        f"FILE_READ:{data}/a.csv", f"FILE_WRITE:{data}/b.csv",
    }  # fmt: skip
    assert (data / "b.csv").read_text() == "b.csv\n"
    risk = " ".join(omnibase("sandbox", "learn", "--help").text.split())
    assert "The risk: then it does read them" in risk


def test_patterns_are_proposed_and_never_written(tmp_path: Path, data: Path) -> None:
    script = _script(tmp_path, _TRIES.replace("{data}", str(data)))
    caps = tmp_path / "caps.json"
    said = omnibase("sandbox", "learn", script, "-o", caps, "--generalise")
    assert f"proposed  FILE_READ:{data}/*.csv  instead of 3" in said.err
    assert not any("*" in name or "?" in name for name in _reasons(caps))
    said = omnibase("sandbox", "learn", script, "-o", caps, "--generalise", "--json", "--force")
    (proposed,) = json.loads(said.out)["proposed"]
    assert proposed["capability"] == f"FILE_READ:{data}/*.csv"
    assert len(proposed["instead_of"]) == 3


def test_nothing_is_overwritten_unless_told(tmp_path: Path) -> None:
    script = _script(tmp_path, "print(1)")
    caps = tmp_path / "caps.json"
    caps.write_text("mine")
    said = omnibase("sandbox", "learn", script, "-o", caps, **NO_RUNTIME)
    assert (said.code, caps.read_text()) == (2, "mine")
    assert "use `--force`" in said.err
    assert omnibase("sandbox", "learn", script, "-o", caps, "--force").code == 0
    assert json.loads(caps.read_text()) == {"version": 1, "capabilities": []}


def test_places_where_no_file_can_be_written(tmp_path: Path) -> None:
    script = _script(tmp_path, "print(1)")
    os.mkfifo(tmp_path / "fifo")
    for target in (tmp_path, tmp_path / "fifo", "/dev/null", tmp_path / "no" / "caps.json",
                   script / "caps.json"):  # fmt: skip
        said = omnibase("sandbox", "learn", script, "-o", target, "--force", **NO_RUNTIME)
        assert said.code == 2
        assert "\nhint: " in said.err
    assert Path("/dev/null").is_char_device()


def test_what_a_run_that_ends_badly_tried_is_kept(tmp_path: Path, data: Path) -> None:
    script = _script(tmp_path, f"""
import time
try:
    open("{data}/a.csv")
except OSError:
    time.sleep(60)
""")  # fmt: skip
    caps = tmp_path / "caps.json"
    said = omnibase("sandbox", "learn", script, "-o", caps, "--timeout", "2")
    assert said.code == 124
    assert list(_reasons(caps)) == [f"FILE_READ:{data}/a.csv"]


def test_nothing_is_written_when_nothing_ran(tmp_path: Path) -> None:
    script = _script(tmp_path, "print(1)")
    said = omnibase("sandbox", "learn", script, "-o", tmp_path / "caps.json", **NO_RUNTIME)
    assert said.code == 125
    assert not (tmp_path / "caps.json").exists()


# The pure part


def _violation(capability: str | None, **fields: Any) -> Violation:
    resource = (capability or "mount").partition(":")[2]
    facts = {"operation": "open", "resource": resource, "errno": 13, "process_name": "python3"}
    return Violation(capability=capability, **{**facts, **fields})


def test_study_merges_what_one_capability_covers() -> None:
    lesson = Lesson()
    seen = [_violation("FILE_READ:/d/x", count=2), _violation("FILE_READ:/d/x", errno=2),
            _violation("FILE_READ:/d/x", operation="chdir")]  # fmt: skip
    study(seen, CapabilitySet(), lesson)
    (row,) = lesson.learnt.values()
    assert row.reason == (
        "tried 4 times: open by python3 (EACCES), open by python3 (ENOENT), "
        "chdir by python3 (EACCES)"
    )
    study([_violation("FILE_READ:/d/x")], CapabilitySet(), lesson)
    assert lesson.learnt[row.capability].count == 4


def test_study_keeps_apart_what_no_grant_would_help() -> None:
    lesson = Lesson()
    given = CapabilitySet.parse(["FILE_READ:/d/**"])
    seen = [
        _violation(None, operation="mount", resource="mount"),
        _violation("FILE_READ:/d/secret/x", reason="masked"),
        _violation("FILE_READ:/d/there"),
        _violation("FILE_READ:/e/*"),
        _violation("FILE_READ:/e/????"),
        _violation("NETWORK_CONNECT:*.com:*"),
        _violation("NETWORK_CONNECT:not a host:1"),
    ]
    study(seen, given, lesson)
    assert lesson.learnt == {}
    assert [why for _, why in lesson.never] == [
        "no capability allows this", "masked", *["no capability names exactly this"] * 5,
    ]  # fmt: skip


def test_a_name_look_up_is_for_any_port_of_that_host() -> None:
    lesson = Lesson()
    study([_violation("NETWORK_CONNECT:Example.com:*")], CapabilitySet(), lesson)
    assert [str(c) for c in lesson.learnt] == ["NETWORK_CONNECT:example.com:*"]


def test_a_look_up_without_a_port_is_told_and_not_written(tmp_path: Path) -> None:
    script = _script(
        tmp_path,
        """
import socket
for look in (lambda: socket.gethostbyname("one.example"),
             lambda: socket.getaddrinfo("two.example", 8443)):
    try: look()
    except OSError: pass
""",
    )
    caps = tmp_path / "caps.json"
    said = omnibase("sandbox", "learn", script, "-o", caps)
    assert said.code == 0, said.err
    assert list(_reasons(caps)) == ["NETWORK_CONNECT:two.example:8443"]
    assert "port unknown  one.example  tried once: lookup by python" in said.err
    assert "add `NETWORK_CONNECT:one.example:443`" in said.err
    assert "never grantable" not in said.err
    said = omnibase("sandbox", "learn", script, "-o", caps, "--force", "--json")
    assert json.loads(said.out)["port_unknown"] == [
        {"host": "one.example", "count": 1, "for_example": "NETWORK_CONNECT:one.example:443"}
    ]
    said = omnibase("sandbox", "run", script)
    assert said.code == 121
    assert "`--allow NETWORK_CONNECT:one.example:443`" in said.err
    assert "one.example:*" in said.err  # as what was denied
    assert "--allow NETWORK_CONNECT:one.example:*" not in said.err
    said = omnibase("sandbox", "run", script, "--allow", "NETWORK_CONNECT:one.example:*")
    assert said.code != 0
    assert "has more than 256 ports" in said.err
    assert "name the ports that are needed" in said.err


def test_writing_makes_reading_needless() -> None:
    lesson = Lesson()
    study([_violation("FILE_READ:/d/x", count=3), _violation("FILE_WRITE:/d/x")],
          CapabilitySet(), lesson)  # fmt: skip
    (row,) = smallest(lesson.learnt).values()
    assert (str(row.capability), row.count) == ("FILE_WRITE:/d/x", 4)
    assert len(lesson.learnt) == 2


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/d/a.csv", "/d/b.csv"], []),
        (["/d/a.csv", "/d/b.csv", "/d/c.csv"], ["/d/*.csv"]),
        (["/d/a.csv", "/d/b.txt", "/d/c"], ["/d/*"]),
        (["/d/x/a", "/d/y/a", "/d/z/a"], ["/d/**"]),
        (["/a", "/b", "/c"], []),
        (["/a/x", "/b/x", "/c/x"], []),
        (["/d/a*.csv", "/d/b.csv", "/d/c.csv"], []),
    ],
)
def test_proposals(paths: list[str], expected: list[str]) -> None:
    capabilities = [Capability.parse(f"FILE_READ:{path}") for path in paths]
    found = proposals(capabilities)
    assert [pattern.resource for pattern in found] == expected
    for pattern, members in found.items():
        assert all(pattern.covers(member) for member in members)


def test_a_dry_run_runs_and_writes_nothing(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    script = _script(tmp_path, f"open({str(ran)!r}, 'w')")
    caps = tmp_path / "caps.json"
    said = omnibase("sandbox", "learn", script, "-o", caps, "--dry-run")
    assert said.code == 0 and "grants, and how each is enforced" in said.text
    assert not caps.exists() and not ran.exists()
    caps.write_text("kept")
    assert omnibase("sandbox", "learn", script, "-o", caps, "--dry-run").code == 2
    assert caps.read_text() == "kept"
