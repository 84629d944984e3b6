"""Processes that share an audit log, and those that are killed while they write to it."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

from omnibase.core.audit import AuditLog
from tests.contract.test_sinks import UNMEASURED, python
from tests.helpers.audit import check, event, events, said

WRITER = """
import sys
from omnibase.core.audit import AuditLog
from omnibase.core.events import Event, SandboxViolation
log = AuditLog(
    sys.argv[1], fsync=sys.argv[4], lock_timeout_seconds=60, segment_bytes=100_000,
    checkpoint_every=150,
)
for number in range(1, int(sys.argv[3]) + 1):
    size = 4000 if number % 7 == 0 else number % 50
    data = SandboxViolation(operation="o", resource="x" * size, evidence="kernel")
    log.emit(Event(data=data, source="urn:test", runid=sys.argv[2], sequence=number))
log.close()
"""


def writer(directory: Path, run: str, count: int, fsync: str = "never") -> subprocess.Popen[bytes]:
    return python(WRITER, str(directory), run, str(count), fsync, **UNMEASURED)


def size_of(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("*.jsonl"))


class TestProcesses:
    def test_eight_keep_one_chain(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        writers = [writer(log, f"w{n}", 150, "batch" if n % 2 else "never") for n in range(8)]
        assert [each.wait(120) for each in writers] == [0] * 8
        report = check(log)
        assert not report.findings, said(report)
        assert (report.events, report.torn, report.lost) == (1200, 0, 0)
        assert report.segments > 2
        assert report.checkpoints >= 8
        by_writer: dict[str, list[int]] = {}
        for each in events(log):
            by_writer.setdefault(each.runid, []).append(each.sequence)
        assert by_writer == {f"w{n}": list(range(1, 151)) for n in range(8)}

    def test_killed_ones_leave_a_chain_that_verifies(self, tmp_path: Path) -> None:
        log, dice = tmp_path / "log", random.Random(5)
        for attempt in range(8):
            pair = [writer(log, f"k{attempt}-{n}", 10**6) for n in range(2)]
            goal = size_of(log) + 30_000 + dice.randrange(200_000)
            deadline = time.monotonic() + 30
            while size_of(log) < goal and time.monotonic() < deadline:
                time.sleep(0.001)
            for each in pair:
                each.send_signal(signal.SIGKILL)
            assert [each.wait(30) for each in pair] == [-signal.SIGKILL] * 2
            report = check(log)
            assert not report.findings, said(report)
        last = AuditLog(log)
        last.emit(event())
        last.close()
        report = check(log)
        assert not report.findings, said(report)
        assert report.torn <= 8
        numbers: dict[str, list[int]] = {}
        for each in events(log):
            numbers.setdefault(each.runid, []).append(each.sequence)
        assert len(numbers) >= 9
        for run in numbers.values():
            assert run == list(range(1, len(run) + 1))

    def test_a_forked_child_goes_on_with_the_chain(self, tmp_path: Path) -> None:
        code = (
            "import os, sys\n"
            "from omnibase.core.audit import AuditLog\n"
            "from omnibase.core.events import *\n"
            "log = AuditLog(sys.argv[1], lock_timeout_seconds=60, segment_bytes=50_000)\n"
            "def emit(run, n):\n"
            "    data = MonitorGap(dropped=n, reason='x' * 1000)\n"
            "    log.emit(Event(data=data, source='urn:test', runid=run, sequence=n))\n"
            "emit('p', 1)\n"
            "child = os.fork()\n"
            "for n in range(2, 102): emit('p' if child else 'c', n)\n"
            "log.close()\n"
            "if child: sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        )
        assert python(code, str(tmp_path / "log")).wait(60) == 0
        assert not check(tmp_path / "log").findings
        assert Counter(e.runid for e in events(tmp_path / "log")) == {"p": 101, "c": 100}


class TestFullDisk:
    def test_is_counted_told_and_does_the_chain_no_harm(self, tmp_path: Path) -> None:
        code = (
            "import resource, signal, sys\n"
            "from omnibase.core.audit import AuditLog\n"
            "from omnibase.core.events import *\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "log = AuditLog(sys.argv[1], fsync='never')\n"
            "bus = EventBus(); bus.subscribe(log)\n"
            "sink = CollectingSink(); bus.subscribe(sink)\n"
            "send = lambda n: Emitter(bus).emit(MonitorGap(dropped=n, reason='test'))\n"
            "send(1)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (1500, resource.RLIM_INFINITY))\n"
            "for n in range(5): send(n)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, resource.RLIM_INFINITY))\n"
            "send(9)\n"
            "bus.close()\n"
            "(failure,) = bus.failures\n"
            "assert failure.lost >= 3 and 'File too large' in failure.error, failure\n"
            "gaps = [p for p in sink.payloads(MonitorGap) if p.reason != 'test']\n"
            "assert sum(p.dropped for p in gaps) == failure.lost, gaps\n"
            "print(failure.lost)\n"
        )
        done = python(code, str(tmp_path / "log"), **UNMEASURED)
        assert done.wait(60) == 0
        report = check(tmp_path / "log")
        assert not report.findings, said(report)
        assert report.lost >= 3
        assert report.torn == 0
        assert report.events + report.lost >= 7
        assert "File too large" in "".join(note.message for note in report.notes)
