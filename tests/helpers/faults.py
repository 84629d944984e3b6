"""Faults: how often, at which moments, to whom; and what has to hold after each.

``OMNIBASE_SOAK=full`` runs each as often as a release deserves, else as often as every
change does. ``OMNIBASE_FAULT_SEED`` repeats the moments of an earlier session.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import secrets
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import omnibase
from omnibase.core.audit.open_runs import SPARE
from omnibase.core.audit.unended import END, STARTS
from omnibase.core.events import CollectingSink, Event, EventBus
from omnibase.core.sandbox.runner import Cancel
from omnibase.core.sandbox.state import RunDirectory, recover, state_dir
from tests.helpers.audit import check, events, said
from tests.security import leaks

FULL = os.environ.get("OMNIBASE_SOAK") == "full"
SEED = os.environ.get("OMNIBASE_FAULT_SEED") or str(secrets.randbelow(10**6))
OUTPUT = "".join(f"line {n}\n" for n in range(6)) + "done\n"
# Reads and imports all the way, so that what serves its files is needed all the way.
SCRIPT = b"""
import importlib, time
names = ["json", "decimal", "csv", "tarfile", "http.client", "xml.dom.minidom"]
for number, name in enumerate(names):
    importlib.import_module(name)
    print("line", number, flush=True)
    time.sleep(0.02)
print("done")
"""
_NAMES = {b"runsc-sandbox": "sentry", b"runsc-gofer": "gofer"}


def often(bounded: int, full: int) -> int:
    """How often something is done in this session."""
    return full if FULL else bounded


def dice(what: str) -> random.Random:
    """Random moments for a test, which says how to have them again."""
    print(f"{what}: OMNIBASE_FAULT_SEED={SEED}")
    return random.Random(f"{what} {SEED}")


@contextlib.contextmanager
def own_state(*, megabytes: float = 0, inodes: int = 0) -> Iterator[Path]:
    """A state directory of its own, on a short path, that shares what is costly to make.

    Args:
        megabytes: It is on a file system of this size, if there is one.
        inodes: It has so many files at most.
    """
    shared = state_dir()
    with tempfile.TemporaryDirectory(prefix="obf-", dir="/tmp") as name, small(
        Path(name), megabytes, inodes
    ) as path, pytest.MonkeyPatch.context() as patch:  # fmt: skip
        for what in ("images", "platforms.json", "runtimes.json"):
            if (shared / what).exists():
                (path / what).symlink_to(shared / what)
        (path / "runs").mkdir(mode=0o700)
        patch.setenv("OMNIBASE_STATE_DIR", str(path))
        yield path


@contextlib.contextmanager
def small(path: Path, megabytes: float, inodes: int = 0) -> Iterator[Path]:
    """Makes a directory a file system of its own, of a size; not if that is 0."""
    if not megabytes:
        yield path
        return
    options = f"size={round(megabytes * 1024)}k,mode=700" + (f",nr_inodes={inodes}" * bool(inodes))
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


@contextlib.contextmanager
def filled(path: Path, *, but_kilobytes: int = 0) -> Iterator[None]:
    """A file system that is full, but for so much."""
    filler = path / "filler"
    free = os.statvfs(path)
    size = free.f_bavail * free.f_frsize - but_kilobytes * 1024
    with filler.open("wb") as file, contextlib.suppress(OSError):
        file.write(b"x" * max(0, size))
    try:
        yield
    finally:
        filler.unlink()


def parts_of(run: str) -> dict[str, list[int]]:
    """PIDs of a run's host processes: ``sentry``, ``gofer``, and ``runsc`` itself."""
    found: dict[str, list[int]] = {}
    if not re.fullmatch("[0-9a-f]{32}", run):  # else it would be anybody's
        return found
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
                if any(run.encode() in word for word in words):
                    found.setdefault(_NAMES.get(words[0], "runsc"), []).append(int(entry))
    return found


class Fault(threading.Thread):
    """Does something to the run of a thread, so long after its directory was made."""

    def __init__(self, delay: float, act: Callable[[str], bool]) -> None:
        super().__init__(name="omnibase-test-fault")
        self._runs: list[str] = []
        self._known = threading.Event()
        self._over = threading.Event()
        self._delay, self._act = delay, act
        self.struck = False

    def __enter__(self) -> Fault:
        create = RunDirectory.create.__func__  # type: ignore[attr-defined]
        caller = threading.get_ident()

        def telling(cls: type[RunDirectory], state: Path, run_id: str = "") -> RunDirectory:
            directory: RunDirectory = create(cls, state, run_id)
            if threading.get_ident() == caller:
                self._runs.append(directory.run_id)
                self._known.set()
            return directory

        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(RunDirectory, "create", classmethod(telling))
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._known.set()
        self.join()
        self._patch.undo()

    def run(self) -> None:
        self._known.wait()
        if self._runs and not self._over.wait(self._delay):
            self.struck = self._act(self._runs[-1])


def kill(part: str, number: int = signal.SIGKILL) -> Callable[[str], bool]:
    """Sends a signal to a part of a run."""

    def act(run: str) -> bool:
        victims = parts_of(run).get(part, [])
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return bool(victims)

    return act


class Outcome:
    """What the caller of a run got: one typed error, or a right result.

    Attributes:
        error: The error.
        result: The result.
        events: What was on the bus.
    """

    def __init__(self, log: Path, source: bytes = SCRIPT, **options: object) -> None:
        self.error: omnibase.OmniBaseError | None = None
        self.result: omnibase.RunResult | None = None
        sink, bus = CollectingSink(), EventBus()
        bus.subscribe(omnibase_log(log))
        bus.subscribe(sink)
        try:
            self.result = omnibase.run(source, bus=bus, **options)  # type: ignore[arg-type]
        except omnibase.OmniBaseError as error:
            self.error = error
        finally:
            bus.close()
        self.events = sink.events

    def names(self) -> list[str]:
        """The types of its events."""
        return [event.name for event in self.events]

    def assert_right(self, output: str = OUTPUT) -> None:
        """Fails unless it went as if nothing had been."""
        assert self.error is None, (self.error, self.error.hint)
        assert self.result is not None
        assert (self.result.exit_code, self.result.stdout.decode()) == (0, output), self.result

    def assert_typed(self, *kinds: type[omnibase.OmniBaseError]) -> omnibase.OmniBaseError:
        """Fails unless it is an error that says what to do."""
        assert self.error is not None, self.result
        assert isinstance(self.error, kinds or omnibase.SandboxError), repr(self.error)
        assert self.error.message and self.error.hint, repr(self.error)
        return self.error

    def assert_either(self) -> None:
        """Fails unless it is one or the other."""
        if self.error is None:
            self.assert_right()
        else:
            self.assert_typed()


def omnibase_log(directory: Path) -> object:
    """A log for one run; what it cannot write is for others to find."""
    from omnibase.core.audit import AuditLog

    return AuditLog(directory, fsync="never")


def settled(log: Path, state: Path, *, gaps: bool = False) -> dict[str, list[Event]]:
    """Fails unless nothing is left, the chain verifies, and each start has its one end.

    Args:
        log: The audit log.
        state: The state directory.
        gaps: Events may have been lost, and the log says so.

    Returns:
        The events of each run.
    """
    deadline = time.monotonic() + 30
    while leaks.processes_of(state) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert leaks.processes_of(state) == []
    by_run: dict[str, list[Event]] = {}
    for event in events(log):
        by_run.setdefault(event.runid, []).append(event)
    known = set(os.listdir(state / "runs")) | set(by_run)
    recover(state)
    assert os.listdir(state / "runs") == []
    assert leaks.cgroups_of(known) == []
    assert notes(state) == []
    report = check(log)
    assert not report.findings, said(report)
    assert report.unended == ()
    by_run = {}
    for event in events(log):
        by_run.setdefault(event.runid, []).append(event)
    for run, told in by_run.items():
        names = [event.name for event in told]
        if set(names) & set(STARTS):
            assert names.count(END) == 1, (run, names)
            assert names.index(END) == len(names) - 1, (run, names)
        if not gaps and not run.startswith("urn:"):
            assert [event.sequence for event in told] == list(range(1, len(told) + 1)), names
    return by_run


def notes(state: Path) -> list[str]:
    """Runs without an end."""
    with contextlib.suppress(FileNotFoundError):
        return [name for name in os.listdir(state / "open") if name != SPARE]
    return []


def cancelled_after(seconds: float) -> tuple[Cancel, threading.Timer]:
    """A cancellation to come."""
    cancel = Cancel()
    timer = threading.Timer(seconds, cancel.set)
    timer.start()
    return cancel, timer
