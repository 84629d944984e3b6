"""Starts the command line as a user does, and looks at what it leaves."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = (sys.executable, "-m", "omnibase")
# With this, whoever looks for a runtime fails with 125: a 2 shows that nobody did.
NO_RUNTIME = {"RUNSC": "/nonexistent/runsc"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()


def omnibase(*arguments: object, stdin: bytes = b"", **variables: str) -> Said:
    """Runs a command to its end; keyword arguments are environment variables."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        env={**os.environ, **variables},
        timeout=120,
        check=False,
    )
    err = done.stderr.decode()
    assert "Traceback (most recent call last)" not in err or "/run/script/" in err, err
    return Said(code=done.returncode, out=done.stdout, err=err)


def heed_signals() -> None:
    """For a child that is to be ended by a signal, whoever started the tests."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def started(*arguments: object, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Starts a command; at the end of the block it is gone and its pipes are closed."""
    pipes: dict[str, Any] = {
        "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
        # Also if the tests themselves were started by `nohup`, or with `&` in a script.
        "preexec_fn": heed_signals,
    }  # fmt: skip
    with subprocess.Popen([*COMMAND, *map(str, arguments)], **{**pipes, **options}) as process:
        try:
            yield process
        finally:
            process.kill()


def run_ids(state: Path) -> list[str]:
    """The runs that have a directory, alive or not."""
    return sorted(path.name for path in (state / "runs").iterdir())


def traces_of(state: Path, run_id: str) -> list[str]:
    """What is left of a run: its directory, control groups, and processes that name it."""
    left = [str(state / "runs" / run_id)] if (state / "runs" / run_id).exists() else []
    left += [str(path) for path in Path("/sys/fs/cgroup").rglob(f"omnibase-{run_id}")]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if run_id.encode() in (entry / "cmdline").read_bytes():
                    left.append(f"process {entry.name}")
            except OSError:
                continue
    left += [line for line in Path("/proc/self/mountinfo").read_text().splitlines()
             if run_id in line]  # fmt: skip
    return left


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Waits for something that another process brings about."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
