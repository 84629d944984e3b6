"""Ends of runs whose process is gone: written once, by whoever comes next, to the same log."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from omnibase.core.audit import AuditLog, open_runs, recovery
from omnibase.core.audit.open_runs import SPARE, OpenRun
from omnibase.core.audit.recovery import recover, waiting
from omnibase.core.audit.writing import Writer
from omnibase.core.events import (
    Emitter,
    Event,
    EventBus,
    Payload,
    PolicyDecided,
    RunRecovered,
    SandboxExit,
    SandboxStart,
    SandboxViolation,
    UnsandboxedStart,
)
from tests.helpers.audit import check, events, said

START = SandboxStart(
    script="job.py", script_sha256="0" * 64, platform="systrap", runtime_version="r"
)
DECIDED = PolicyDecided(trust="community", lifecycle="active", environment="default")
TRIED = SandboxViolation(operation="openat", resource="/etc/shadow", evidence="kernel")
END = SandboxExit(outcome="ok", exit_code=0, wall_seconds=1.0)
GONE: Callable[[str], bool] = lambda sandbox: True  # noqa: E731
WORKER = (
    "import sys, pathlib\n"
    "from omnibase.core.audit.recovery import recover\n"
    "recover(pathlib.Path(sys.argv[1]), lambda sandbox: True)\n"
)


class Run:
    """A run with a log, up to where it is left."""

    def __init__(self, place: Path, *logs: Path, segment_bytes: int = 64 << 20) -> None:
        self.notes = place / "open"
        self.logs = logs or (place / "log",)
        self.bus = EventBus()
        for log in self.logs:
            self.bus.subscribe(AuditLog(log, fsync="never", segment_bytes=segment_bytes))
        self.emitter = Emitter(
            self.bus, subject="job.py", componentid="c-1", policydigest="sha256:1",
            traceparent=f"00-{'1' * 32}-{'2' * 16}-01",
        )  # fmt: skip
        self.note = OpenRun(self.notes, self.bus, self.emitter)

    @property
    def id(self) -> str:
        return self.emitter.runid

    def begin(self, *payloads: Payload, start: Payload = START) -> Run:
        self.emitter.emit(DECIDED)
        self.note.begin("sandbox-1")
        for payload in (start, *payloads):
            self.emitter.emit(payload)
        return self

    def die(self) -> Run:
        """What is left is what a killed process leaves: its locks are free."""
        self.note.release()
        self.bus.close()
        return self

    def recorded(self, log: Path | None = None) -> list[Event]:
        return [each for each in events(log or self.logs[0]) if each.runid == self.id]

    def names(self) -> list[str]:
        return [each.name for each in self.recorded()]


def left(notes: Path) -> list[str]:
    """The notes there are, without the spare file."""
    return [name for name in os.listdir(notes) if name != SPARE]


def sound(log: Path) -> None:
    report = check(log)
    assert not report.findings, said(report)


@pytest.mark.parametrize(
    "start",
    [START, UnsandboxedStart(script="job.py", script_sha256="0" * 64, python="p", policies=())],
)
def test_the_end_is_that_of_the_run(tmp_path: Path, start: Payload) -> None:
    run = Run(tmp_path).begin(TRIED, start=start).die()
    assert waiting(run.notes) == 1
    assert recover(run.notes, GONE) == ((run.id,), (), ())
    decided, began, tried, mark, end = run.recorded()
    assert isinstance(mark.data, RunRecovered)
    assert mark.data.pid == os.getpid()
    assert isinstance(end.data, SandboxExit)
    assert (end.data.outcome, end.data.violations, end.data.exit_code) == ("aborted", 1, None)
    assert 0 <= end.data.wall_seconds < 60
    assert [each.sequence for each in run.recorded()] == [1, 2, 3, 4, 5]
    for each in (mark, end):
        same = ("source", "runid", "subject", "componentid", "policydigest", "traceparent",
                "parentspan")  # fmt: skip
        assert [getattr(each, name) for name in same] == [getattr(began, name) for name in same]
    assert len({each.id for each in (decided, began, tried, mark, end)}) == 5
    assert left(run.notes) == []
    assert recover(run.notes, GONE) == ((), (), ())
    assert len(run.recorded()) == 5
    sound(run.logs[0])


def test_a_run_that_ends_leaves_no_note(tmp_path: Path) -> None:
    run = Run(tmp_path).begin()
    assert left(run.notes) == [run.id]
    run.note.end(run.emitter.emit(END))
    run.note.end(run.emitter.emit(TRIED))
    assert left(run.notes) == []
    run.die()
    assert recover(run.notes, GONE) == ((), (), ())


def test_the_file_of_a_note_that_went_is_used_again(tmp_path: Path) -> None:
    inodes = []
    for length in (3000, 1, 1):
        run = Run(tmp_path)
        run.emitter.subject = "x" * length
        run.begin()
        inodes.append((run.notes / run.id).stat().st_ino)
        assert json.loads((run.notes / run.id).read_text())["subject"] == run.emitter.subject
        run.note.end(run.emitter.emit(END))
        run.die()
    assert len(set(inodes)) == 1
    assert os.listdir(run.notes) == [SPARE]

    first, second = Run(tmp_path).begin(), Run(tmp_path).begin()
    assert sorted(os.listdir(run.notes)) == sorted([first.id, second.id])
    for each in (first, second):
        each.note.end(each.emitter.emit(END))
    assert os.listdir(run.notes) == [SPARE]
    fd = os.open(run.notes / SPARE, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)  # a recovery that was late
    third = Run(tmp_path).begin()
    os.close(fd)
    assert sorted(os.listdir(run.notes)) == sorted([SPARE, third.id])
    for each in (first, second, third):
        each.die()
    assert recover(run.notes, GONE).ended == (third.id,)


def test_a_run_without_a_log_has_no_note(tmp_path: Path) -> None:
    bus = EventBus()
    note = OpenRun(tmp_path / "open", bus, Emitter(bus))
    note.begin("s")
    note.release()
    assert not (tmp_path / "open").exists()
    assert recover(tmp_path / "open", GONE) == ((), (), ())


def test_a_living_run_is_left_alone(tmp_path: Path) -> None:
    run = Run(tmp_path).begin()
    run.note.begin("again")  # a second try of the same run
    assert waiting(run.notes) == 0
    assert recover(run.notes, GONE) == ((), (), ())
    assert run.names() == ["PolicyDecided", "SandboxStart"]
    assert left(run.notes) == [run.id]
    run.die()


def test_it_waits_for_the_sandbox_to_be_gone(tmp_path: Path) -> None:
    run = Run(tmp_path).begin().die()
    asked: list[str] = []

    def alive(sandbox: str) -> bool:
        asked.append(sandbox)
        return False

    assert recover(run.notes, alive) == ((), (), ())
    assert asked == ["sandbox-1"]
    assert run.names() == ["PolicyDecided", "SandboxStart"]
    assert recover(run.notes, GONE).ended == (run.id,)


@pytest.mark.parametrize(
    ("told", "added"),
    [
        ([], []),  # killed before the start was recorded: there is nothing to end
        ([START, END], []),  # killed before the note was removed
        ([START, RunRecovered(reason="r", pid=1)], ["SandboxExit"]),  # recovery, killed half-way
        ([START, RunRecovered(reason="r", pid=1), END], []),
    ],
)
def test_what_is_on_record_is_not_repeated(
    tmp_path: Path, told: list[Payload], added: list[str]
) -> None:
    run = Run(tmp_path)
    run.note.begin("s")
    for payload in told:
        run.emitter.emit(payload)
    run.die()
    before = run.names()
    recover(run.notes, GONE)
    assert run.names() == before + added
    assert left(run.notes) == []


def test_each_of_two_logs_gets_it(tmp_path: Path) -> None:
    run = Run(tmp_path, tmp_path / "a", tmp_path / "b").begin().die()
    hidden = (tmp_path / "b").rename(tmp_path / "elsewhere")
    assert recover(run.notes, GONE) == ((run.id,), (run.id,), ())
    hidden.rename(tmp_path / "b")
    assert recover(run.notes, GONE) == ((run.id,), (), ())
    for log in run.logs:
        names = [each.name for each in run.recorded(log)]
        assert names == ["PolicyDecided", "SandboxStart", "RunRecovered", "SandboxExit"]


def test_the_start_may_be_segments_ago(tmp_path: Path) -> None:
    run = Run(tmp_path, segment_bytes=2000).begin()
    for _ in range(20):
        Emitter(run.bus).emit(TRIED)
    run.die()
    assert len(list(run.logs[0].glob("*.jsonl"))) > 5
    assert recover(run.notes, GONE).ended == (run.id,)
    assert run.names()[-1] == "SandboxExit"


def test_a_torn_end_is_none(tmp_path: Path) -> None:
    run = Run(tmp_path).begin()
    run.emitter.emit(END)
    run.die()
    (segment,) = run.logs[0].glob("*.jsonl")
    with segment.open("r+b") as file:
        file.truncate(segment.stat().st_size - 30)
    assert recover(run.notes, GONE).ended == (run.id,)
    assert run.names() == ["PolicyDecided", "SandboxStart", "RunRecovered", "SandboxExit"]
    assert [each.sequence for each in run.recorded()] == [1, 2, 3, 4]
    sound(run.logs[0])


@pytest.mark.parametrize("by", ["whoever comes next", "the next run of the process"])
def test_an_end_that_the_log_lost_is_told_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    run = Run(tmp_path).begin()
    with monkeypatch.context() as patch:

        def full(self: Writer, data: bytes) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(Writer, "_put", full)
        run.note.end(run.emitter.emit(END))
    run.die()
    assert run.names() == ["PolicyDecided", "SandboxStart"]
    killed = Run(tmp_path).begin().die()
    if by == "whoever comes next":
        open_runs._kept.clear()  # as that is another process
        assert run.id in recover(run.notes, GONE).ended
    else:
        later = Run(tmp_path).begin()
        later.note.end(later.emitter.emit(END))
        later.die()
        assert left(run.notes) == [killed.id]  # its sandbox may be alive
        assert killed.names() == ["PolicyDecided", "SandboxStart"]
        recover(run.notes, GONE)
    assert run.recorded()[-1].data == END
    assert run.recorded()[-1].sequence == 3
    assert run.names().count("SandboxExit") == killed.names().count("SandboxExit") == 1
    assert left(run.notes) == []


def test_ends_that_the_log_loses_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_runs, "MAX_WAITING", 3)
    monkeypatch.setattr(open_runs, "_kept", set())

    def full(self: Writer, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    for _ in range(6):
        run = Run(tmp_path).begin()
        with monkeypatch.context() as patch:
            patch.setattr(Writer, "_put", full)
            run.note.end(run.emitter.emit(END))
        run.bus.close()
    assert len(left(tmp_path / "open")) == 3
    recover(tmp_path / "open", GONE)


def test_a_log_that_others_keep_locked_costs_the_next_run_little(tmp_path: Path) -> None:
    runs = [Run(tmp_path).begin().die() for _ in range(5)]
    fd = os.open(runs[0].logs[0] / "lock", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    began = time.monotonic()
    assert len(recover(runs[0].notes, GONE).waiting) == 5
    assert time.monotonic() - began < 2
    os.close(fd)
    assert len(recover(runs[0].notes, GONE).ended) == 5


def test_the_log_is_gone_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "MAX_WAITING", 3)
    runs = []
    for age in range(5):
        run = Run(tmp_path, tmp_path / f"log{age}").begin().die()
        for file in run.logs[0].iterdir():
            file.unlink()
        os.utime(run.notes / run.id, (1000 - age, 1000 - age))
        runs.append(run.id)
    found = recover(tmp_path / "open", GONE)
    assert found.ended == ()
    assert (list(found.waiting), list(found.given_up)) == (runs[2::-1], runs[:2:-1])
    assert sorted(left(tmp_path / "open")) == sorted(runs[:3])
    assert not list(tmp_path.glob("log*/*.jsonl"))  # none is made anew


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"logs": 1}', '{"logs": [["/x", "y", 1]]}', "[" * 100_000,
             '{"logs": [], "runid": "x", "source": "y", "sequence": "z"}'],
)  # fmt: skip
def test_what_is_no_note_goes(tmp_path: Path, text: str) -> None:
    (tmp_path / "x").write_text(text)
    assert recover(tmp_path, GONE) == ((), (), ())
    assert left(tmp_path) == []


def test_a_draft_goes_once_it_is_old(tmp_path: Path) -> None:
    draft = tmp_path / ".new-x"
    draft.touch()
    recover(tmp_path, GONE)
    assert draft.exists()
    assert waiting(tmp_path) == 0
    os.utime(draft, (time.time() - 120,) * 2)
    recover(tmp_path, GONE)
    assert not draft.exists()


def test_a_note_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.notes.write_text("in the way")
    with pytest.raises(OSError, match="Not a directory"):
        run.note.begin("s")
    run.die()


def test_a_forked_child_does_not_keep_a_run_alive(tmp_path: Path) -> None:
    run = Run(tmp_path).begin()
    reader, writer = os.pipe()
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.write(told, b"x")
        os.read(reader, 1)
        os._exit(0)
    try:
        os.read(ready, 1)
        run.die()
        assert recover(run.notes, GONE).ended == (run.id,)
    finally:
        for fd in (reader, writer, ready, told):
            os.close(fd)
        os.waitpid(child, 0)


def worker(notes: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WORKER, str(notes)])


def test_of_many_at_once_one_writes_it(tmp_path: Path) -> None:
    runs = [Run(tmp_path).begin().die() for _ in range(30)]
    workers = [worker(tmp_path / "open") for _ in range(6)]
    assert [each.wait(60) for each in workers] == [0] * 6
    recover(tmp_path / "open", GONE)  # what met a busy log
    found = Counter((each.runid, each.name) for each in events(tmp_path / "log"))
    for run in runs:
        assert found[run.id, "RunRecovered"] == found[run.id, "SandboxExit"] == 1
    assert left(tmp_path / "open") == []
    sound(tmp_path / "log")


def test_those_that_recover_may_be_killed_too(tmp_path: Path) -> None:
    runs = [Run(tmp_path).begin().die() for _ in range(100)]
    dice = random.Random(11)
    for _ in range(8):
        pair = [worker(tmp_path / "open") for _ in range(2)]
        size, goal = 0, dice.randrange(40_000)
        (segment,) = (tmp_path / "log").glob("*.jsonl")
        before, deadline = segment.stat().st_size, time.monotonic() + 5
        while size < goal and time.monotonic() < deadline:
            size = segment.stat().st_size - before
            if all(each.poll() is not None for each in pair):
                break
        for each in pair:
            each.send_signal(signal.SIGKILL)
            each.wait(30)
    recover(tmp_path / "open", GONE)
    by_run: dict[str, list[Event]] = {}
    for each in events(tmp_path / "log"):
        by_run.setdefault(each.runid, []).append(each)
    for run in runs:
        names = [each.name for each in by_run[run.id]]
        assert names == ["PolicyDecided", "SandboxStart", "RunRecovered", "SandboxExit"]
        assert [each.sequence for each in by_run[run.id]] == [1, 2, 3, 4]
    assert left(tmp_path / "open") == []
    sound(tmp_path / "log")


def test_a_note_is_no_secret_and_small(tmp_path: Path) -> None:
    run = Run(tmp_path).begin()
    path = run.notes / run.id
    assert path.stat().st_mode & 0o777 == 0o600
    assert run.notes.stat().st_mode & 0o777 == 0o700
    note = json.loads(path.read_text())
    assert path.stat().st_size == 1024
    assert note["logs"] == [[str(run.logs[0]), 1, note["logs"][0][2]]]
    run.die()


def test_a_note_that_cannot_get_its_name_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    run, before = Run(tmp_path), len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        with pytest.raises(OSError, match="No space left"):
            run.note.begin("s")
    assert os.listdir(run.notes) == []
    assert len(os.listdir("/proc/self/fd")) == before
    run.note.end(run.emitter.emit(END))  # nothing was begun
    run.die()
