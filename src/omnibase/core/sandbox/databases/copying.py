"""Copies of SQLite databases for a run, made before it starts.

The file is walked without following a link; its directory is mounted read-only into a
jail, where `worker` makes the copy by SQLite's online backup, with the rights of the
file's owner. So nothing changes on the host, a writer of the database loses no lock,
and the owner's rights bound what a file can be made to give.
"""

from __future__ import annotations

import contextlib
import math
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from omnibase.core.sandbox import _runsc, _sys
from omnibase.core.sandbox.databases import worker
from omnibase.core.sandbox.resolving import StagedMount, walk
from omnibase.core.sandbox.spec import DatabaseGrant
from omnibase.errors import CapabilityError, SandboxError

if TYPE_CHECKING:
    from omnibase.core.sandbox.runner import Cancel

__all__ = ["MAX_DATABASE_BYTES", "DatabaseCopied", "check", "copies"]

MAX_DATABASE_BYTES: Final = 1 << 30
"""Largest database that is copied, its log included."""
_SECONDS: Final = 30
_NOBODY: Final = 65534
# No link either: who writes in the directory must not choose what its owner reads.
_CLOSED: Final = (
    _sys.MOUNT_ATTR_RDONLY
    | _sys.MOUNT_ATTR_NOSUID
    | _sys.MOUNT_ATTR_NODEV
    | _sys.MOUNT_ATTR_NOSYMFOLLOW
)
_REASONS: Final = {
    "EMPTY": ("is empty, no database yet", "open it once with its own application"),
    "SQLITE_NOTADB": ("is no SQLite database, or an encrypted one", "check the file"),
    "SQLITE_CORRUPT": ("is a damaged SQLite database", "restore it from a backup"),
    "SQLITE_READONLY_ROLLBACK": (
        "holds a change that its writer did not finish",
        "open it once with its own application, which takes that back",
    ),
    "SQLITE_CANTOPEN": (
        "cannot be read by its owner without changing something beside it",
        "open it once with its own application",
    ),
    "SQLITE_PERM": ("may not be read by its own owner", "check the modes of its directories"),
    "SQLITE_BUSY": ("is kept locked by another process", "try again when that is done"),
    "SQLITE_FULL": ("is too large for the disk of the state directory", "make room there"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseCopied:
    """A copy of a database was made for the run.

    Attributes:
        capability: The grant.
        path: Where the database is, on the host and in the guest.
        size: Of the copy, in bytes.
    """

    capability: str
    path: str
    size: int


def check(grant: DatabaseGrant) -> None:
    """Looks at a database as a run would, and copies nothing.

    Raises:
        CapabilityError: It is missing, no database, a link, or too large.
    """
    with _opened(grant):
        pass


@contextlib.contextmanager
def copies(
    grants: tuple[DatabaseGrant, ...], directory: str, *, seconds: float, cancel: Cancel
) -> Iterator[tuple[tuple[StagedMount, DatabaseCopied], ...]]:
    """Makes a copy of each, in the current mount namespace; they stay in the directory.

    Args:
        grants: What was granted.
        directory: A directory of the run's own, to be made.
        seconds: What the run may last: no copy takes longer, nor than 30 seconds.
        cancel: Ends it early.

    Raises:
        CapabilityError: One cannot be copied as it stands.
        SandboxError: The run was cancelled.
        OSError: The directory could not be used.
    """
    with contextlib.ExitStack() as stack:
        found = []
        if grants:
            os.mkdir(directory, 0o700)
        for number, grant in enumerate(grants):
            jail = f"{directory}/{number}"
            copy = _copied(grant, jail, min(seconds, _SECONDS), cancel)
            fd = os.open(copy, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            mount = StagedMount(
                fd=fd,
                path=grant.path,
                is_directory=False,
                writable=False,
                capability=grant.capability,
            )
            size = os.stat(fd).st_size
            told = DatabaseCopied(capability=grant.capability, path=grant.path, size=size)
            found.append((mount, told))
        yield tuple(found)


@contextlib.contextmanager
def _opened(grant: DatabaseGrant) -> Iterator[int]:
    """Opens a database's directory, once the file in it was looked at.

    The file is not opened: closing it would take a lock from a connection that this
    process has to the same database (POSIX locks are the process's).
    """
    directory, name = os.path.split(grant.path)
    parent = walk(directory, replace(grant.file, path=directory)) if directory != "/" else -1
    if parent < 0:
        parent = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        file = walk(grant.path, grant.file)
        try:
            _check_beside(grant, parent, name)
            _check(grant, os.stat(file), _log_size(parent, name))
        finally:
            os.close(file)
        yield parent
    finally:
        os.close(parent)


def _check_beside(grant: DatabaseGrant, parent: int, name: str) -> None:
    """Refuses what SQLite would wait for: it opens a pipe as it does a journal."""
    for suffix in ("-journal", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            mode = os.stat(f"{name}{suffix}", dir_fd=parent, follow_symlinks=False).st_mode
            if not stat.S_ISREG(mode):
                what = f"has `{name}{suffix}` beside it, which is not a regular file"
                raise _refused(grant, what, "remove that, and find out who made it")


def _log_size(parent: int, name: str) -> int:
    with contextlib.suppress(OSError):
        return os.stat(f"{name}-wal", dir_fd=parent, follow_symlinks=False).st_size
    return 0


def _check(grant: DatabaseGrant, status: os.stat_result, log: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _refused(grant, "is not a regular file", "name the database's file")
    if status.st_size + log > MAX_DATABASE_BYTES:
        raise _refused(
            grant,
            f"is larger than {MAX_DATABASE_BYTES >> 20} MiB, too large to be copied for a run",
            "grant a smaller extract, or `FILE_READ` of a database that nobody changes",
        )


def _copied(grant: DatabaseGrant, jail: str, seconds: float, cancel: Cancel) -> str:
    """Has the worker make the copy; returns where it is."""
    for made in (jail, f"{jail}/src", f"{jail}/out"):
        os.mkdir(made)
        os.chmod(made, 0o755)  # whatever the umask is: its owner works in it
    copy = f"{jail}/out/copy"
    with _opened(grant) as parent:
        owner = os.stat(os.path.basename(grant.path), dir_fd=parent, follow_symlinks=False)
        tree = _sys.open_tree_clone(parent)
        try:
            _sys.mount_setattr(tree, _CLOSED)
            _sys.move_mount(tree, f"{jail}/src")
        finally:
            os.close(tree)
    try:
        os.chown(f"{jail}/out", owner.st_uid, owner.st_gid)
        answer = _runsc.run_helper(
            [
                sys.executable, "-I", "-S", "-B", worker.__file__, jail,
                os.path.basename(grant.path), str(owner.st_uid), str(owner.st_gid),
                str(MAX_DATABASE_BYTES), str(math.ceil(seconds)),
            ],
            seconds=seconds,
            cancel=cancel.fileno(),
        )  # fmt: skip
    finally:
        _sys.unmount(f"{jail}/src")
    if answer is None:
        if cancel.is_set():
            raise SandboxError("the run was cancelled")
        hint = "another process may keep it locked: try again, or copy it"
        raise _refused(grant, f"could not be copied within {seconds:g} s", hint)
    if answer != "ok":
        known = _REASONS.get(answer) or _REASONS.get("_".join(answer.split("_")[:2]))
        raise _refused(grant, *(known or (f"cannot be copied ({answer})", "check the file")))
    # The worker was the owner, and wrote it: what it left is looked at as it is.
    fd = os.open(copy, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise _refused(grant, "was copied to something odd", "check the file")
        os.fchown(fd, _NOBODY, _NOBODY)
        os.fchmod(fd, 0o444)
    finally:
        os.close(fd)
    return copy


def _refused(grant: DatabaseGrant, why: str, hint: str) -> CapabilityError:
    return CapabilityError(
        f"`{grant.path}` {why}",
        details={"capability": grant.capability, "file": grant.path},
        hint=hint,
    )
