"""`omnibase sandbox run`, typed as a user types it, on a real sandbox."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import secrets
import select
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from omnibase.core.events import Event
from tests.helpers.cli import (
    COMMAND,
    NO_RUNTIME,
    eventually,
    omnibase,
    run_ids,
    started,
    traces_of,
)

Script = Callable[[str], Path]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    def write(source: str) -> Path:
        path = tmp_path / "script.py"
        path.write_text(source)
        return path

    return write


@pytest.fixture
def data() -> Iterator[Path]:
    """A directory that no grant reaches by itself: not below the guest's own `/tmp`."""
    path = Path("/srv") / f"ob-cli-{secrets.token_hex(4)}"
    path.mkdir()
    (path / "allowed.txt").write_text("the content\n")
    (path / "other.txt").write_text("not for you\n")
    yield path
    shutil.rmtree(path)


def test_a_script_runs_and_nothing_is_added_to_its_output(script: Script) -> None:
    said = omnibase("sandbox", "run", script("import sys\nprint(6 * 7)\nsys.stderr.write('e')\n"))
    assert (said.code, said.out, said.err) == (0, b"42\n", "e")


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("import sys; sys.exit(7)", 7),
        ("import sys; sys.exit(255)", 255),
        ("1 / 0", 1),
        ("import os; os.kill(os.getpid(), 11)", 139),
    ],
)
def test_the_exit_code_is_the_scripts_own(script: Script, source: str, code: int) -> None:
    assert omnibase("sandbox", "run", script(source)).code == code


def test_arguments_after_two_dashes_are_the_scripts(script: Script) -> None:
    path = script("import sys, json; print(json.dumps(sys.argv[1:]))")
    said = omnibase("sandbox", "run", path, "--", "--json", "-x", "a b", "", "--", "é")
    assert json.loads(said.out) == ["--json", "-x", "a b", "", "--", "é"]


def test_options_may_come_before_the_script(script: Script) -> None:
    said = omnibase("sandbox", "run", "--timeout=20", "--env=A=b=c", script("""
import os
print(os.environ["A"])
"""))  # fmt: skip
    assert (said.code, said.out) == (0, b"b=c\n")


def test_a_script_on_standard_input() -> None:
    said = omnibase("sandbox", "run", "-", "--", "x", stdin=b"import sys; print(sys.argv[1:])")
    assert (said.code, said.out) == (0, b"['x']\n")


def test_standard_input_is_passed_on_only_when_asked(script: Script, tmp_path: Path) -> None:
    path = script("import sys; print(len(sys.stdin.buffer.read()))")
    big = os.urandom(1 << 20)
    (tmp_path / "input").write_bytes(big[:777])
    assert omnibase("sandbox", "run", path, stdin=big).out == b"0\n"
    assert omnibase("sandbox", "run", path, "--stdin", "-", stdin=big).out == b"1048576\n"
    assert omnibase("sandbox", "run", path, "--stdin", tmp_path / "input").out == b"777\n"


def test_the_environment_is_only_what_is_given(script: Script) -> None:
    path = script("import os, json; print(json.dumps(dict(os.environ)))")
    said = omnibase(
        "sandbox", "run", path, "--env", "MODE=fast", "--env", "EMPTY=", SECRET="s3cr3t"
    )
    found = json.loads(said.out)
    assert (found["MODE"], found["EMPTY"]) == ("fast", "")
    assert "s3cr3t" not in said.text


def test_output_arrives_while_the_script_runs(script: Script) -> None:
    path = script("import time; print('first'); time.sleep(60)")
    with started("sandbox", "run", path, "--timeout", "90") as process:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], 30)
        assert ready
        assert os.read(process.stdout.fileno(), 100) == b"first\n"
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143


def test_a_reader_that_stalls_does_not_hold_up_the_deadline(
    script: Script, state_directory: Path
) -> None:
    path = script("while True: print('x' * 1000)")
    flags = ("--timeout", "2", "--on-output-limit", "truncate")
    with started("sandbox", "run", path, *flags) as process:
        assert eventually(lambda: run_ids(state_directory) != [])
        assert eventually(lambda: run_ids(state_directory) == [], 30)
        assert process.stdout is not None
        assert len(process.stdout.read()) > 1 << 20
        assert process.wait(30) == 124


def test_bytes_pass_through_a_pipe_unchanged(script: Script) -> None:
    every = bytes(range(256))
    said = omnibase("sandbox", "run", script("""
import sys
sys.stdout.buffer.write(bytes(range(256)))
"""))  # fmt: skip
    assert (said.code, said.out) == (0, every)


def _on_a_terminal(path: Path, **variables: str) -> tuple[int, bytes]:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", **variables}
    with started("sandbox", "run", path, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        seen = b""
        # Linux says by an error that the other end is closed.
        with contextlib.suppress(OSError):
            while chunk := os.read(ours, 65536):
                seen += chunk
        os.close(ours)
        return process.wait(60), seen


def test_hostile_output_does_not_reach_a_terminal_raw(script: Script) -> None:
    path = script("""
import sys
out = sys.stdout.buffer
out.write(b"\\x1b]0;title\\x07\\x1b[2J tab\\t \\xc2\\x9b31m ")
out.write(b"\\xe2\\x80\\xae \\x9b \\x7f \\x08 ok\\n")
out.flush()
out.write("é".encode()[:1]); out.flush(); out.write("é".encode()[1:]); out.flush()
""")
    code, seen = _on_a_terminal(path, NO_COLOR="1")
    assert code == 0
    assert b"\\x1b]0;title\\x07\\x1b[2J tab\t \\x9b31m \\u202e \\x9b \\x7f \\x08 ok" in seen
    assert "é".encode() in seen
    assert not {0x1B, 0x07, 0x08, 0x7F} & set(seen)


def test_colour_on_a_terminal_unless_unwanted(script: Script) -> None:
    path = script("open('/etc/passwd')")
    assert b"\x1b[31momnibase: error:\x1b[0m" in _on_a_terminal(path)[1]
    assert b"\x1b" not in _on_a_terminal(path, NO_COLOR="1")[1]
    assert "\x1b" not in omnibase("sandbox", "run", path).err


def test_a_first_image_is_announced_on_a_terminal(script: Script) -> None:
    with tempfile.TemporaryDirectory(prefix="ob-", dir="/tmp") as state:
        code, seen = _on_a_terminal(script("print('ran')"), OMNIBASE_STATE_DIR=state)
        assert (code, b"building the sandbox image" in seen) == (0, True)
        code, seen = _on_a_terminal(script("print('ran')"), OMNIBASE_STATE_DIR=state)
        assert (code, seen) == (0, b"ran\r\n")


def test_a_violation_is_told_with_what_would_allow_it(script: Script, data: Path) -> None:
    path = script(f"""
for _ in range(3):
    try:
        print(open("{data}/allowed.txt").read(), end="")
    except OSError as error:
        print("denied")
""")
    said = omnibase("sandbox", "run", path)
    assert (said.code, said.out) == (121, b"denied\n" * 3)
    assert f"denied  FILE_READ:{data}/allowed.txt  3 times: open by python" in said.err
    allow = f"--allow FILE_READ:{data}/allowed.txt"
    assert said.err.splitlines()[-1].endswith(allow)
    said = omnibase("sandbox", "run", path, *allow.split())
    assert (said.code, said.out, said.err) == (0, b"the content\n" * 3, "")


def test_a_grant_of_one_file_shows_that_file_alone(script: Script, data: Path) -> None:
    path = script(f"""
print(open("{data}/allowed.txt").read(), end="")
open("{data}/other.txt")
""")
    said = omnibase("sandbox", "run", path, "--allow", f"FILE_READ:{data}/allowed.txt")
    assert (said.code, said.out) == (121, b"the content\n")
    assert f"FILE_READ:{data}/other.txt" in said.err
    assert f"FILE_READ:{data}/allowed.txt" not in said.err


def test_a_capability_file_and_more_grants_add_up(
    script: Script, data: Path, tmp_path: Path
) -> None:
    caps = tmp_path / "caps.json"
    caps.write_text(json.dumps([f"FILE_READ:{data}/allowed.txt"]))
    path = script(f"""
print(open("{data}/allowed.txt").read() + open("{data}/other.txt").read(), end="")
""")
    said = omnibase("sandbox", "run", path, "--capabilities", caps, "--allow",
                    f"FILE_READ:{data}/other.txt")  # fmt: skip
    assert (said.code, said.out) == (0, b"the content\nnot for you\n")


def test_the_scripts_words_cannot_fake_or_widen_what_we_say(script: Script) -> None:
    path = script("""
for name in ("/srv/x\\nhint: run rm", "/srv/\\x1b[2J", "/srv/*", "/srv/????", "/srv/\\u202e"):
    try:
        open(name)
    except OSError:
        pass
""")
    said = omnibase("sandbox", "run", path)
    assert said.code == 121
    assert not any(line.startswith("hint: run rm") for line in said.err.splitlines())
    assert not {"\x1b", "\u202e"} & set(said.err)
    # A pattern of the script's choice is not the file that it names.
    assert "no capability names exactly this" in said.err
    assert "--allow" not in said.err


def test_the_first_violation_can_end_the_run(script: Script) -> None:
    path = script("""
import time
try:
    open("/etc/passwd")
except OSError:
    pass
time.sleep(60)
print("late")
""")
    began = time.monotonic()
    said = omnibase("sandbox", "run", path, "--on-violation", "kill", "--timeout", "90")
    assert (said.code, said.out) == (121, b"")
    assert time.monotonic() - began < 45


def test_violations_can_be_recorded_only(script: Script) -> None:
    path = script("""
try:
    open("/etc/passwd")
except OSError:
    raise SystemExit(9)
""")
    said = omnibase("sandbox", "run", path, "--on-violation", "record")
    assert said.code == 9
    assert said.err.startswith("omnibase: note: the script tried what it was not granted, once\n")


@pytest.mark.parametrize(
    ("flags", "source", "code", "words"),
    [
        ((), "x = bytearray(90_000_000)", 122, "memory limit of 50 MB"),
        (("--memory", "64MiB"), "x = bytearray(90_000_000)", 122, "memory limit of 64 MiB"),
        (("--cpu-time", "1"), "while True: pass", 122, "CPU time limit of 1 s"),
        (("--output", "1KB"), "print('x' * 5000)", 122, "output limit of 1 KB"),
        (("--scratch", "1MiB"), "open('/tmp/x', 'wb', 0).write(bytes(2 << 20)) ; 1 / 0", 122,
         "disk limit of 1 MiB"),
        (("--pids", "4"), "import threading, time\nfor _ in range(9): "
         "threading.Thread(target=time.sleep, args=(3,)).start()", 122, "processes limit of 4"),
        (("--timeout", "1"), "import time; time.sleep(60)", 124, "took longer than 1 s"),
    ],
)  # fmt: skip
def test_each_limit_is_told_apart(
    script: Script, flags: tuple[str, ...], source: str, code: int, words: str
) -> None:
    said = omnibase("sandbox", "run", script(source), *flags)
    assert said.code == code, said.err
    assert words in said.err
    assert "\nhint: " in said.err


def test_memory_raises_the_ceiling_and_grants_it(script: Script) -> None:
    path = script("x = bytearray(300_000_000); print(len(x))")
    assert omnibase("sandbox", "run", path, "--memory", "400MiB").out == b"300000000\n"
    for flags in (("--allow", "MEMORY:400MiB"),
                  ("--allow", "MEMORY:128MiB", "--memory", "64MiB")):  # fmt: skip
        said = omnibase("sandbox", "run", path, *flags)
        assert (said.code, said.out) == (2, b"")
        assert "more than the ceiling" in said.err


def test_output_can_be_cut_instead(script: Script) -> None:
    path = script("print('x' * 5000); open('/tmp/reached', 'w')")
    said = omnibase("sandbox", "run", path, "--output", "1000", "--on-output-limit", "truncate")
    assert said.code == 0
    assert said.out == b"x" * 1000 + b"\n[output cut at 1000 bytes]\n"
    assert "note: the output was cut at 1 KB" in said.err


def test_json_is_one_object_and_nothing_else(script: Script) -> None:
    path = script("import sys; print('hi'); sys.exit(3)")
    said = omnibase("sandbox", "run", path, "--json")
    document = json.loads(said.out)
    assert (said.code, said.err, document["exit_code"]) == (3, "", 3)
    assert (document["stdout"], document["error"], document["violations"]) == ("hi\n", None, [])
    assert document["usage"]["peak_memory_bytes"] > 1 << 20


def test_json_holds_the_error_too(script: Script) -> None:
    said = omnibase("sandbox", "run", script("open('/etc/passwd')"), "--json")
    document = json.loads(said.out)
    assert said.code == 121
    assert document["error"]["code"] == "sandbox_violation"
    assert [v["capability"] for v in document["violations"]] == ["FILE_READ:/etc/passwd"]
    said = omnibase("sandbox", "run", script("import time; time.sleep(60)"), "--json",
                    "--timeout", "1")  # fmt: skip
    assert (said.code, json.loads(said.out)["error"]["code"]) == (124, "sandbox_timeout")


def test_events_are_appended_to_a_file(script: Script, data: Path, tmp_path: Path) -> None:
    record = tmp_path / "audit" / "events.jsonl"
    path = script("""
try:
    open("/etc/passwd")
except OSError:
    pass
""")
    flags = ("--events", record, "--allow", f"FILE_READ:{data}/allowed.txt")
    said = omnibase("sandbox", "run", path, "--json", *flags)
    events = [Event.from_json(line) for line in record.read_text().splitlines()]
    assert [type(event.data).__name__ for event in events] == [
        "CapabilityGranted", "SandboxStart", "SandboxViolation", "SandboxExit",
    ]  # fmt: skip
    assert events[2].data.capability == "FILE_READ:/etc/passwd"
    assert {event.runid for event in events} == {json.loads(said.out)["run_id"]}
    omnibase("sandbox", "run", path, *flags)
    assert len(record.read_text().splitlines()) == 8


def test_a_record_that_cannot_be_written_stops_the_run(script: Script, tmp_path: Path) -> None:
    path = script("print(1)")
    said = omnibase("sandbox", "run", path, "--events", tmp_path, **NO_RUNTIME)
    assert said.code == 2
    assert f"`--events {tmp_path}` cannot be written" in said.err


# Scripts that are no scripts


def test_a_missing_script() -> None:
    said = omnibase("sandbox", "run", "/nonexistent/x.py", **NO_RUNTIME)
    assert (said.code, said.out) == (2, b"")
    assert "the script `/nonexistent/x.py` cannot be read: No such file or directory" in said.err


def test_a_directory_and_a_fifo_are_no_scripts(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, what in ((tmp_path, "a directory"), (tmp_path / "fifo", "not a regular file")):
        said = omnibase("sandbox", "run", path, **NO_RUNTIME)
        assert said.code == 2
        assert what in said.err


def test_an_empty_script_does_nothing(script: Script) -> None:
    said = omnibase("sandbox", "run", script(""))
    assert (said.code, said.out, said.err) == (0, b"", "")


def test_a_script_of_10_megabytes(script: Script) -> None:
    source = "x = 1  # " + "y" * 90 + "\n"
    path = script(source * (10_000_000 // len(source)) + "print('end')\n")
    said = omnibase("sandbox", "run", path, "--memory", "256MiB", "--timeout", "60")
    assert (said.code, said.out) == (0, b"end\n")


def test_a_script_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "latin.py"
    path.write_bytes(b"print('\xe9')\n")
    said = omnibase("sandbox", "run", path)
    assert said.code == 1
    assert "SyntaxError" in said.err
    path.write_bytes(b"# -*- coding: latin-1 -*-\nprint('\xe9')\n")
    assert omnibase("sandbox", "run", path).out == "é\n".encode()


def test_a_syntax_error_is_the_scripts_own(script: Script) -> None:
    said = omnibase("sandbox", "run", script("print(1)\ndef f(:\n"))
    assert (said.code, said.out) == (1, b"")
    assert "SyntaxError" in said.err
    assert "line 2" in said.err


# Bad capability files

_BAD_FILES = {
    "broken": (b'{"version": 1,\n "capabilities": [}', "line 2"),
    "not json": (b"FILE_READ:/data", "line 1"),
    "empty": (b"", "empty"),
    "duplicate key": (b'{"version": 1,\n"version": 1, "capabilities": []}', "line 2"),
    "deep": (b"[" * 100_000, "line 1"),
    "nan": (b'{"version": NaN,\n"capabilities": []}', "line 1"),
    "not utf-8": (b'[\n"FILE_READ:/\xff"]', "line 2"),
    "utf-16": ('["FILE_READ:/data"]'.encode("utf-16"), "UTF-16"),
    "number": (b"42", "expected a list"),
    "wrong types": (b'{"version": 1, "capabilities": {"a": 1}}', "an object"),
    "wrong item": (b'[\n\n17]', "line 3"),
    "unknown key": (b'{"version": 1, "capabilities": [],\n"x": 1}', "line 2"),
    "wrong version": (b'{"version": 2, "capabilities": []}', "the version is `2`"),
    "huge number": (b"[" + b"9" * 5000 + b"]", "line 1"),
    "unknown type": (b'[\n"FILE_RED:/data"]', "line 2"),
    "dots": (b'["FILE_READ:/data/../etc/passwd"]', "line 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", _BAD_FILES)
def test_a_bad_capability_file_starts_nothing(script: Script, tmp_path: Path, name: str) -> None:
    content, words = _BAD_FILES[name]
    caps = tmp_path / "caps.json"
    caps.write_bytes(content)
    for command in (("sandbox", "run", script("print(1)"), "--capabilities"),
                    ("capabilities", "check")):  # fmt: skip
        said = omnibase(*command, caps, **NO_RUNTIME)
        assert (said.code, said.out) == (2, b"")
        lines = said.err.splitlines()
        assert lines[0].startswith("omnibase: error: ")
        assert words in lines[0]
        assert lines[1].startswith("hint: ")
        assert len(lines) == 2


def test_a_capability_file_of_100_megabytes(script: Script, tmp_path: Path) -> None:
    caps = tmp_path / "caps.json"
    with caps.open("wb") as file:
        file.truncate(100_000_000)
    said = omnibase("sandbox", "run", script("print(1)"), "--capabilities", caps, **NO_RUNTIME)
    assert (said.code, said.out) == (2, b"")
    assert "it is larger than 1048576 bytes" in said.err


def test_a_capability_file_that_is_none(script: Script, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", tmp_path / "missing", "/dev/zero"):
        said = omnibase("sandbox", "run", script(""), "--capabilities", path, **NO_RUNTIME)
        assert (said.code, said.out) == (2, b"")
        assert "\nhint: " in said.err


# Usage


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sandbox", "rnu"), "did you mean `run`?"),
        (("sandbx",), "did you mean `sandbox`?"),
        (("sandbox",), "choose `run`, `explain`, `learn`"),
        (("--colour",), "`--colour` is not an option here"),
        (("sandbox", "run"), "`SCRIPT` is missing"),
        (("sandbox", "run", ""), "`SCRIPT` is empty"),
        (("sandbox", "run", "s.py", "--memroy", "1"), "did you mean `--memory`?"),
        (("sandbox", "run", "s.py", "--mem", "64MiB"), "`--mem` is not an option"),
        (("sandbox", "run", "s.py", "arg"), "`omnibase sandbox run SCRIPT -- arg`"),
        (("sandbox", "run", "s.py", "--memory"), "`--memory` needs a value"),
        (("sandbox", "run", "s.py", "--json=yes"), "`--json` takes no value"),
        (("sandbox", "run", "s.py", "--timeout", "1", "--timeout", "2"), "is given twice"),
        (("sandbox", "run", "s.py", "--memory", "12"), "choose 40 MB to 16 TiB"),
        (("sandbox", "run", "s.py", "--memory", "12 parsec"), "is not a size"),
        (("sandbox", "run", "s.py", "--timeout", "soon"), "is not a number"),
        (("sandbox", "run", "s.py", "--timeout", "nan"), "is out of range"),
        (("sandbox", "run", "s.py", "--timeout", "-1"), "is out of range"),
        (("sandbox", "run", "s.py", "--cpus", "inf"), "is out of range"),
        (("sandbox", "run", "s.py", "--pids", "2.5"), "is not a whole number"),
        (("sandbox", "run", "s.py", "--on-violation", "shrug"), "`raise`, `kill` or `record`"),
        (("sandbox", "run", "s.py", "--on-output-limit", "x"), "`raise` or `truncate`"),
        (("sandbox", "run", "s.py", "--allow", "FILE_RED:/x"), "did you mean `FILE_READ`?"),
        (("sandbox", "run", "s.py", "--allow", "/x"), "is not a capability"),
        (("sandbox", "run", "s.py", "--env", "HOME"), "is not `NAME=VALUE`"),
        (("sandbox", "run", "s.py", "--env", "A=1", "--env", "A=2"), "`--env A` is given twice"),
        (("sandbox", "run", "s.py", "--stdin", "/nonexistent"), "cannot be read"),
        (("sandbox", "run", "s.py", "--stdin", "/"), "is a directory"),
        (("sandbox", "run", "-", "--stdin", "-"), "both the script and its input"),
        (("doctor", "now"), "`now` is one argument too many"),
        (("doctor", "--", "x"), "`x` is one argument too many"),
        (("capabilities", "check"), "`FILE` is missing"),
        (("sandbox", "learn", "s.py"), "`--out` is missing"),
    ],
)
def test_wrong_usage_says_what_to_type(arguments: tuple[str, ...], words: str) -> None:
    said = omnibase(*arguments, **NO_RUNTIME)
    assert (said.code, said.out) == (2, b"")
    assert words in said.err
    first, second = said.err.splitlines()
    assert first.startswith("omnibase: error: `") or "standard input" in first
    assert second.startswith("hint: ")


def test_a_grant_that_cannot_be_enforced_is_refused(script: Script) -> None:
    for grant in (
        "DATABASE_WRITE:sqlite:/x.db",
        "FILE_READ:/proc/cpuinfo",
        "FILE_READ:/nonexistent/x",
    ):
        said = omnibase("sandbox", "run", script("print('ran')"), "--allow", grant)
        assert (said.code, said.out) == (2, b"")
        assert "\nhint: " in said.err
    said = omnibase("sandbox", "run", script(""), "--env", "PYTHONPATH=/x")
    assert said.code == 2


def test_no_runtime_is_a_fault_of_the_set_up(script: Script) -> None:
    said = omnibase("sandbox", "run", script("print(1)"), **NO_RUNTIME)
    assert (said.code, said.out) == (125, b"")
    assert "`RUNSC=/nonexistent/runsc` is not an executable file" in said.err
    said = omnibase("sandbox", "run", script("print(1)"), "--json", **NO_RUNTIME)
    assert (said.code, json.loads(said.out)["error"]["code"]) == (125, "sandbox_unavailable")


def test_a_dry_run_is_explain(script: Script) -> None:
    path = script("print('ran')")
    said = omnibase("sandbox", "run", path, "--dry-run")
    assert said.code == 0
    assert said.out == omnibase("sandbox", "explain", path).out


# Ends in the middle


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_the_run_and_leaves_nothing(
    script: Script, state_directory: Path, number: signal.Signals, code: int
) -> None:
    path = script("""
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    time.sleep(600)
print("up")
time.sleep(600)
""")
    with started("sandbox", "run", path, "--timeout", "600") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"up\n"
        (run_id,) = run_ids(state_directory)
        process.send_signal(number)
        process.send_signal(number)  # impatience changes nothing
        assert process.wait(30) == code
        assert process.stderr.read().strip() == b""
        assert process.stdout.read() == b""
        assert traces_of(state_directory, run_id) == []


@pytest.mark.parametrize("cleaner", [("doctor", "--clean"), ("sandbox", "run", "-")])
def test_what_a_killed_run_left_is_cleaned_by_whoever_comes_next(
    script: Script, state_directory: Path, cleaner: tuple[str, ...]
) -> None:
    path = script("import time; print('up'); time.sleep(600)")
    with started("sandbox", "run", path, "--timeout", "600") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        (run_id,) = run_ids(state_directory)
        process.kill()
        assert process.wait(30) == -signal.SIGKILL
    assert traces_of(state_directory, run_id) != []
    log = state_directory / "audit"
    told = omnibase("audit", "show", run_id, "--audit", log).text
    assert "SandboxStart" in told and "SandboxExit" not in told
    assert "no end is on record" in told
    assert run_id in omnibase("audit", "verify", "--audit", log).text
    assert run_id in omnibase("audit", "stats", "--audit", log).text

    said = omnibase(*cleaner, stdin=b"print('next')")
    assert said.code == 0, said.err
    if cleaner[0] == "doctor":
        assert f"removed {state_directory}/runs/{run_id}\n" in said.text
        assert "ends of killed runs put on the audit log: 1; waiting for theirs: 0" in said.text
    assert eventually(lambda: not traces_of(state_directory, run_id))
    found = json.loads(omnibase("audit", "show", run_id, "--audit", log, "--json").out)
    assert [each["eventname"] for each in found["events"]] == [
        "SandboxStart", "RunRecovered", "SandboxExit",
    ]  # fmt: skip
    assert found["events"][-1]["data"]["outcome"] == "aborted"
    assert found["events"][1]["data"]["pid"] == process.pid
    assert found["unended"] is False
    assert run_id not in omnibase("audit", "verify", "--audit", log).text
    assert set(os.listdir(state_directory / "open")) <= {".spare"}


def test_a_reader_that_goes_away_ends_the_run_quietly(
    script: Script, state_directory: Path
) -> None:
    path = script("while True: print('y' * 100)")
    with started("sandbox", "run", path, "--output", "1GiB", "--timeout", "60") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(45) == 141
        assert process.stderr.read() == b""
    assert run_ids(state_directory) == []


def test_a_violation_counts_for_more_than_a_reader_that_went_away(script: Script) -> None:
    path = script("""
try:
    open("/etc/passwd")
except OSError:
    pass
print("x")
""")
    reader, writer = os.pipe()
    os.close(reader)
    with started("sandbox", "run", path, stdout=writer) as process:
        os.close(writer)
        assert process.wait(60) == 121


def test_output_to_a_full_disk(script: Script) -> None:
    path = script("print(1)")
    with open("/dev/full", "wb") as full, started("sandbox", "run", path, stdout=full) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 125
    assert b"standard output cannot be written: No space left on device" in err


def test_a_closed_standard_output_is_no_ones_file(script: Script, tmp_path: Path) -> None:
    record = tmp_path / "events.jsonl"
    line = 'exec "$@" >&- 2>&- <&-'
    done = subprocess.run(
        ["/bin/sh", "-c", line, "sh", *COMMAND, "sandbox", "run", str(script("print('secret')")),
         "--events", str(record)],
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert all(Event.from_json(line) for line in record.read_text().splitlines())


def test_who_opens_a_database_is_told_how_to_get_a_copy(script: Script, data: Path) -> None:
    path = data / "app.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma user_version = 42")
        connection.commit()
    read = script(
        f"import sqlite3; print(*sqlite3.connect('{path}').execute('pragma user_version'))"
    )
    said = omnibase("sandbox", "run", read)
    grant = f"--allow DATABASE_READ:sqlite:{path}"
    assert said.code == 121
    assert said.err.splitlines()[-1].endswith(f"in place of it: {grant}")
    said = omnibase("sandbox", "run", read, *grant.split())
    assert (said.code, said.out, said.err) == (0, b"(42,)\n", "")


@pytest.mark.parametrize(
    ("path", "note"),
    [
        ("/artifacts/out/plots", "no ARTIFACT_WRITE is granted"),
        ("/registry/out/report", "no REGISTRY_WRITE is granted"),
        ("/srv/none", "FILE_WRITE:/srv/none is not granted"),
    ],
)
def test_a_directory_that_cannot_be_made_is_told_with_the_grant(
    script: Script, path: str, note: str
) -> None:
    said = omnibase("sandbox", "run", script(f"import os; os.makedirs('{path}')"))
    assert said.code == 121
    assert f"\n{note}\n" in said.err
    assert "its path is not seen; a grant to write there may allow it" in said.err
    granted = script("import os; os.makedirs('/artifacts/out/plots'); print('made')")
    said = omnibase("sandbox", "run", granted, "--allow", "ARTIFACT_WRITE:plots/*")
    assert said.out == b"made\n"


def test_a_missing_module_is_told_with_how_to_get_it(script: Script) -> None:
    said = omnibase("sandbox", "run", script("import nothing_of_that_name"))
    assert said.code == 1
    assert "`--packages FILE` gives a script others" in said.err


def test_the_exception_of_a_script_is_in_the_json(script: Script) -> None:
    said = omnibase("sandbox", "run", script("raise ValueError('of mine')"), "--json")
    told = json.loads(said.out)
    assert (said.code, told["error"]) == (1, None)
    assert (told["script_error"]["type"], told["script_error"]["message"]) == (
        "ValueError",
        "of mine",
    )
    told = json.loads(omnibase("sandbox", "run", script("print(1)"), "--json").out)
    assert told["script_error"] is None
