"""Copies one SQLite database: a process of its own, in a jail, with the file owner's rights.

A database that another script wrote is hostile input, and SQLite parses it in C. So
this is no part of the process that decides: it sees nothing but the database's
directory, read-only, and the directory for the copy, and what it may use is bounded.
It imports the standard library alone, all of it before it enters the jail.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sqlite3
import sys
import time
from urllib.parse import quote

_PR_SET_PDEATHSIG = 1
_NEW_NETWORK = 0x4000_0000
_WAL = 2
_TRIES = 5
# Of a file that was changed less than this ago, a second change may not show in its times.
_CLOCK_TICK = 0.05


def main(jail: str, name: str, uid: int, gid: int, most: int, seconds: int) -> str:
    """Makes ``/out/copy`` of ``/src/<name>``; returns ``ok`` or the name of SQLite's error."""
    _enter(jail, uid, gid, most, seconds)
    source = f"/src/{name}"
    try:
        if not os.stat(source).st_size:
            return "EMPTY"
    except OSError:
        return "SQLITE_PERM"  # its owner cannot reach it
    copied = _copy(f"file:{quote(source)}?mode=ro")
    if copied == "SQLITE_CANTOPEN" and _is_closed_wal(source):
        copied = _copy_unused(source)
    if copied == "ok":
        _leave_wal_mode("/out/copy")
    return copied


def _enter(jail: str, uid: int, gid: int, most: int, seconds: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "the jail could not be made")
    signal.alarm(seconds + 1)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then it is an error to SQLite
    for limit, value in (
        (resource.RLIMIT_FSIZE, most),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, 1 << 30),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    os.chroot(jail)
    os.chdir("/")
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    # Root has lost nothing by becoming its own user: it gives up its capabilities.
    header = (ctypes.c_uint32 * 2)(0x2008_0522, 0)
    # A change of rights forgets whose death it is to follow, so that comes last.
    if libc.capset(header, (ctypes.c_uint32 * 6)()) or libc.prctl(
        _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0
    ):
        raise OSError(ctypes.get_errno(), "the jail could not be closed")


def _copy(uri: str) -> str:
    """Copies with SQLite's own backup: one read transaction, whoever else writes."""
    _remove("/out/copy")
    try:
        source = sqlite3.connect(uri, uri=True, timeout=1.0)
        copy = sqlite3.connect("/out/copy", isolation_level=None)
        copy.execute("PRAGMA journal_mode=OFF")
        copy.execute("PRAGMA synchronous=OFF")
        source.backup(copy, sleep=0.01)
        source.close()
        copy.close()
    except sqlite3.Error as error:
        return str(getattr(error, "sqlite_errorname", type(error).__name__))
    return "ok"


def _is_closed_wal(path: str) -> bool:
    """Whether it is in WAL mode and nobody uses it: then there is no log, nor can we make one."""
    try:
        if os.stat(f"{path}-wal").st_size:
            return False
    except FileNotFoundError:
        pass
    with open(path, "rb") as file:
        return file.read(20)[18:20] == bytes((_WAL, _WAL))


def _copy_unused(path: str) -> str:
    """Copies a database that nobody uses without its locks, and again if somebody did."""
    for _ in range(_TRIES):
        before = os.stat(path)
        age = time.time() - max(before.st_mtime, before.st_ctime)
        if age < _CLOCK_TICK:
            time.sleep(_CLOCK_TICK)
            continue
        copied = _copy(f"file:{quote(path)}?mode=ro&immutable=1")
        if _marks(os.stat(path)) == _marks(before) and _is_closed_wal(path):
            return copied
        again = _copy(f"file:{quote(path)}?mode=ro")
        if again != "SQLITE_CANTOPEN":
            return again
    return "SQLITE_BUSY"


def _marks(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _leave_wal_mode(path: str) -> None:
    """Marks the copy as one without a log (bytes 18 and 19): it could not be opened read-only."""
    with open(path, "r+b") as file:
        head = file.read(20)
        if head[18:20] == bytes((_WAL, _WAL)):
            file.seek(18)
            file.write(b"\1\1")


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


if __name__ == "__main__":
    print(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])), flush=True)
