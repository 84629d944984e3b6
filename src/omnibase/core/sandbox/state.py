"""The state directory: one directory per run, held by a lock, swept when its holder is gone.

Crash-only: nothing depends on a tidy end. A run's directory is locked for as
long as its process lives; whoever comes next takes the locks that are free and
removes what they guarded (processes, cgroups, files).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from omnibase.core.sandbox.cgroup import remove_paths
from omnibase.errors import ConfigurationError, SandboxUnavailable

if TYPE_CHECKING:
    from omnibase.core.audit.recovery import Recovered

__all__ = [
    "OPEN_RUNS",
    "RunDirectory",
    "leftovers",
    "recover",
    "state_dir",
    "storage_hint",
    "sweep",
]

OPEN_RUNS: Final = "open"
"""In the state directory: what is noted of runs whose end is not on record yet."""

_LOCK: Final = "lock"
_CGROUPS: Final = "cgroups.json"
_NEW: Final = ".new-"
_NEW_SECONDS: Final = 60.0


def state_dir() -> Path:
    """Returns the owner-only state directory, made if need be.

    It is ``$OMNIBASE_STATE_DIR``, else ``/var/lib/omnibase`` for root, else
    ``$XDG_STATE_HOME/omnibase``.

    Raises:
        ConfigurationError: It belongs to somebody else, is a link, or cannot be made.
    """
    named = os.environ.get("OMNIBASE_STATE_DIR")
    if named:
        path = Path(named).absolute()
    elif os.geteuid() == 0:
        path = Path("/var/lib/omnibase")
    else:
        base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
        path = Path(base) / "omnibase"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise ConfigurationError(
                f"the state directory `{path}` is not a directory of yours",
                hint="set `OMNIBASE_STATE_DIR` to a directory of your own",
            )
        if status.st_mode & 0o077:
            os.chmod(path, 0o700)
        (path / "runs").mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"the state directory `{path}` cannot be used: {error.strerror}",
            hint="set `OMNIBASE_STATE_DIR` to a directory of your own",
        ) from error
    return path


@dataclass(slots=True)
class RunDirectory:
    """A run's own directory, locked while this object lives.

    Attributes:
        run_id: 32 hexadecimal digits, 128 bits from the system's generator.
        path: The directory.
    """

    run_id: str
    path: Path
    _lock_fd: int

    @classmethod
    def create(cls, state: Path, run_id: str = "") -> RunDirectory:
        """Makes and locks a new one; it appears under its name only once locked."""
        run_id = run_id or os.urandom(16).hex()
        draft = state / "runs" / f"{_NEW}{run_id}"
        lock_fd = -1
        try:
            draft.mkdir(mode=0o700)
            lock_fd = os.open(draft / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock_fd, fcntl.LOCK_EX)
            final = state / "runs" / run_id
            draft.rename(final)
        except OSError as error:
            if lock_fd >= 0:
                os.close(lock_fd)
            shutil.rmtree(draft, ignore_errors=True)
            raise SandboxUnavailable(
                f"no run directory can be made in `{state}`: {error.strerror}",
                hint=storage_hint(error),
            ) from error
        _held.add(lock_fd)
        return cls(run_id, final, lock_fd)

    def record_cgroups(self, paths: tuple[str, ...]) -> None:
        """Notes what a sweep has to remove if this process dies."""
        (self.path / _CGROUPS).write_text(json.dumps(paths))

    def remove(self) -> None:
        """Deletes the directory and lets go of the lock."""
        if self._lock_fd >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            self.release()

    def release(self) -> None:
        """Lets go of the lock; what is left is for the next sweep."""
        if self._lock_fd in _held:
            _held.discard(self._lock_fd)
            os.close(self._lock_fd)
        self._lock_fd = -1


# Locks of this process's runs. A child that is forked meanwhile would hold them for as
# long as it lives, and nobody would sweep what this process left.
_held: set[int] = set()


def _after_fork() -> None:
    for fd in _held:
        os.close(fd)
    _held.clear()


os.register_at_fork(after_in_child=_after_fork)


def storage_hint(error: BaseException) -> str:
    """Says what to do about a state directory that cannot be written."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    move = "set `OMNIBASE_STATE_DIR` to a directory that is on disk and writable"
    return f"free disk space, or {move}" if full else move


def leftovers(state: Path) -> list[Path]:
    """Returns the run directories whose process is gone."""
    stale = []
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(state / "runs"):
            path = Path(entry.path)
            if entry.name.startswith(_NEW):
                with contextlib.suppress(OSError):
                    if time.time() - entry.stat().st_mtime > _NEW_SECONDS:
                        stale.append(path)
            elif _is_free(path):
                stale.append(path)
    return sorted(stale)


def sweep(state: Path) -> list[Path]:
    """Ends and removes what killed processes left behind; returns what was removed."""
    removed = []
    for path in leftovers(state):
        try:
            fd = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            shutil.rmtree(path, ignore_errors=True)
            removed.append(path)
            continue
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            paths: tuple[str, ...] = ()
            with contextlib.suppress(OSError, ValueError, TypeError):
                paths = tuple(str(p) for p in json.loads((path / _CGROUPS).read_text()))
            if not remove_paths(paths, timeout_seconds=2.0):
                continue  # something of it cannot be ended yet
            shutil.rmtree(path, ignore_errors=True)
            removed.append(path)
        except BlockingIOError:
            continue  # another sweep has it
        finally:
            os.close(fd)
    return removed


def recover(state: Path) -> Recovered | None:
    """Sweeps, and puts on record the ends of runs that their process did not come to tell.

    It never fails: what cannot be done now waits for the next time.

    Returns:
        What was put on record; ``None`` if nothing is open, as most of the time.
    """
    sweep(state)
    directory = state / OPEN_RUNS
    try:
        if set(os.listdir(directory)) <= {".spare"}:
            return None
    except OSError:
        return None
    from omnibase.core.audit import recovery  # most runs have none of it to do

    try:
        return recovery.recover(directory, lambda name: not os.path.lexists(state / "runs" / name))
    except OSError as error:
        import logging

        logging.getLogger("omnibase").warning("ends of runs were not told: %s", error)
        return None


def _is_free(path: Path) -> bool:
    try:
        fd = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return path.is_dir()
    except OSError:  # e.g. no descriptor left: that says nothing about the run
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True
