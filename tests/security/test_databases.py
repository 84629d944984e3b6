"""Databases on a real sandbox: a copy to read, nothing to write, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import omnibase
from omnibase import CapabilityError
from omnibase.core import events
from omnibase.core.sandbox import _runsc, state
from omnibase.core.sandbox.databases import copying
from omnibase.core.sandbox.runner import Cancel
from omnibase.core.sandbox.spec import DatabaseGrant
from tests.security.harness import SandboxFixture

pytestmark = [pytest.mark.capabilities, pytest.mark.threat("T-EXEC-23")]

READ = 'import sqlite3, sys\nprint(sqlite3.connect(sys.argv[1]).execute("{}").fetchall())\n'


def read(text: str) -> bytes:
    return READ.format(text).encode()


def database(path: Path, *, rows: int = 3, wal: bool = False) -> Path:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"pragma journal_mode={'wal' if wal else 'delete'}")
        connection.execute("create table t (a)")
        connection.executemany("insert into t values (?)", [(n,) for n in range(1, rows + 1)])
    return path


def grant(path: Path | str) -> str:
    return f"DATABASE_READ:sqlite:{path}"


def states(directory: Path) -> dict[str, tuple[bytes, int, int]]:
    """What is in a directory, and when each was changed."""
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ctime_ns)
        for path in directory.iterdir()
    }


@pytest.mark.parametrize("wal", [False, True])
@pytest.mark.parametrize("owner", [0, 1234])
def test_what_is_granted_is_read_and_nothing_else(
    area: Path, sandbox: SandboxFixture, wal: bool, owner: int
) -> None:
    path = database(area / "app.db", wal=wal)
    path.chmod(0o600)
    os.chown(path, owner, owner)
    other = database(area / "other.db")
    before = states(area)
    outcome = sandbox("databases", [grant(path)], args=[str(path), ""])
    outcome.assert_clean()
    told = outcome.report
    assert told["default"] == told["ro"] == told["rw"] == [[6]]
    assert told["check"] == [["ok"]]
    assert {told["insert"], told["wal"], told["unlogged"]} == {"OperationalError"}
    (copied,) = outcome.reported(events.DatabaseCopied)
    assert (copied.capability, copied.database, copied.size_bytes) == (
        grant(path), str(path), path.stat().st_size,
    )  # fmt: skip
    outcome = sandbox("databases", [grant(path)], args=[str(path), str(other)])
    told = outcome.report
    for tried in ("write", "truncate", "journal", "log", "unlink", "rename", "chmod"):
        assert told[tried] in ("PermissionError", "OSError"), tried
    assert told["other"] == told["attached"] == "OperationalError"
    assert told["beside"] == ["app.db"]
    write = f"DATABASE_WRITE:sqlite:{path}"
    outcome.assert_violation(write, operation="open")
    assert sum(one.count for one in outcome.violations if one.capability == write) == 4
    outcome.assert_violation(f"FILE_READ:{other}", operation="open")
    for operation in ("unlink", "rename", "chmod"):
        outcome.assert_violation(operation=operation)
    outcome.assert_raised()
    assert states(area) == before


def test_without_a_grant_there_is_no_database(area: Path, sandbox: SandboxFixture) -> None:
    path = database(area / "app.db")
    outcome = sandbox.source(read("select sum(a) from t"), args=[str(path)])
    assert outcome.finished.exit_code == 1
    assert b"unable to open database file" in outcome.finished.stderr
    assert f"DATABASE_READ:sqlite:{path} is not granted".encode() in outcome.finished.stderr
    outcome.assert_violation(f"FILE_READ:{path}", operation="open")
    for uri in (f"file:{path}?mode=ro", f"file://localhost{path}", f"file://{path}"):
        code = b"import sqlite3, sys\nsqlite3.connect(sys.argv[1], uri=True).execute('select 1')"
        outcome = sandbox.source(code, args=[uri])
        outcome.assert_violation(f"FILE_READ:{path}", operation="open")
    outcome = sandbox.source(b"import sys\nopen(sys.argv[1], 'r+b')", args=[str(path)])
    outcome.assert_violation(f"FILE_WRITE:{path}", operation="open")
    granted = sandbox.source(read("select sum(a) from t"), [grant(path)], args=[str(path)])
    granted.assert_clean()
    assert granted.stdout == "[(6,)]\n"


@contextlib.contextmanager
def in_namespace(path: Path) -> Iterator[Path]:
    """Makes a copy as a run does, without a run."""
    place = Path(tempfile.mkdtemp(dir="/var/lib"))

    def work() -> None:
        _runsc.enter_mount_namespace()
        grants = (DatabaseGrant(path=str(path), capability=grant(path)),)
        with (
            contextlib.closing(Cancel()) as cancel,
            copying.copies(grants, f"{place}/copies", seconds=30, cancel=cancel),
        ):
            pass

    try:
        _runsc.in_new_thread(work)
        yield place / "copies" / "0" / "out" / "copy"
    finally:
        shutil.rmtree(place)


_WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
connection.execute("pragma cache_size=4")
connection.execute("pragma wal_autocheckpoint=3")
print("ready", flush=True)
while True:
    connection.execute("begin immediate")
    connection.execute("update t set a = a - 7 where rowid % 2 = 0")
    connection.execute("update t set a = a + 7 where rowid % 2 = 1")
    connection.execute("commit")
"""


@contextlib.contextmanager
def writer(path: Path) -> Iterator[None]:
    """Another process that moves amounts about all the time; their sum stays."""
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        try:
            yield
        finally:
            process.kill()


@pytest.mark.parametrize("wal", [False, True])
def test_a_copy_is_consistent_while_another_process_writes(
    area: Path, sandbox: SandboxFixture, wal: bool
) -> None:
    path = database(area / "app.db", rows=2000, wal=wal)
    ask = read("select sum(a), count(*) from t, pragma_integrity_check where 1")
    with writer(path):
        for _ in range(2):
            outcome = sandbox.source(ask, [grant(path)], args=[str(path)])
            outcome.assert_clean()
            assert outcome.stdout == "[(2001000, 2000)]\n"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("select sum(a) from t").fetchone() == (2001000,)


def test_a_connection_of_this_process_keeps_its_locks(area: Path, sandbox: SandboxFixture) -> None:
    """Closing a file drops the process's POSIX locks on it, so we must never open it."""
    path = database(area / "app.db")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as own:
        own.execute("begin immediate")
        sandbox.source(read("select 1 from t"), [grant(path)], args=[str(path)]).assert_clean()
        other = (
            "import sqlite3, sys\nsqlite3.connect(sys.argv[1], timeout=0).execute('delete from t')"
        )
        done = subprocess.run(
            [sys.executable, "-c", other, str(path)], capture_output=True, check=False
        )
        assert b"database is locked" in done.stderr


_CRASH = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute(f"pragma journal_mode={sys.argv[2]}")
connection.execute("pragma cache_size=1")
connection.execute("pragma wal_autocheckpoint=0")
connection.execute("begin")
connection.execute("update t set a = a + 1")
if sys.argv[2] == "wal":
    connection.execute("commit")
os._exit(0)
"""


def _left_by_a_crash(path: Path, mode: str) -> None:
    subprocess.run([sys.executable, "-c", _CRASH, str(path), mode], check=True)


def test_what_a_dead_writer_left_in_a_log_is_read(area: Path, sandbox: SandboxFixture) -> None:
    path = database(area / "app.db", rows=2000)
    _left_by_a_crash(path, "wal")
    assert (area / "app.db-wal").stat().st_size
    before = states(area)
    outcome = sandbox.source(read("select sum(a) from t"), [grant(path)], args=[str(path)])
    outcome.assert_clean()
    assert outcome.stdout == "[(2003000,)]\n"
    assert {name: state[:2] for name, state in states(area).items()} == {
        name: state[:2] for name, state in before.items()
    }


def _unfinished(area: Path) -> Path:
    path = database(area / "app.db", rows=20_000)
    _left_by_a_crash(path, "delete")
    assert (area / "app.db-journal").exists()
    return path


def _odd(content: bytes) -> Callable[[Path], Path]:
    def make(area: Path) -> Path:
        path = area / "app.db"
        path.write_bytes(content)
        return path

    return make


def _link(area: Path) -> Path:
    database(area / "real.db")
    (area / "app.db").symlink_to("real.db")
    return area / "app.db"


def _directory(area: Path) -> Path:
    (area / "app.db").mkdir()
    return area / "app.db"


def _pipe(area: Path) -> Path:
    os.mkfifo(area / "app.db")
    return area / "app.db"


def _cut(area: Path) -> Path:
    path = database(area / "app.db", rows=5000)
    os.truncate(path, 8192)
    return path


def _log_alone(area: Path) -> Path:
    path = database(area / "app.db")
    _left_by_a_crash(path, "wal")
    (area / "app.db-shm").unlink()
    return path


def _large(area: Path) -> Path:
    path = database(area / "app.db")
    os.truncate(path, copying.MAX_DATABASE_BYTES + 1)
    return path


def _closed(area: Path) -> Path:
    inner = area / "inner"
    inner.mkdir(mode=0o700)
    path = database(inner / "app.db")
    os.chown(path, 1234, 1234)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda area: area / "app.db", "does not exist"),
        (_odd(b""), "is empty, no database yet"),
        (_odd(b"hello" * 1000), "is no SQLite database, or an encrypted one"),
        (_odd(b"SQLite format 3\0" + b"\xff" * 4080), "is no SQLite database"),
        (_link, "is a symbolic link to `real.db`"),
        (_directory, "is not a regular file"),
        (_pipe, "is not a regular file"),
        (_cut, "is a damaged SQLite database"),
        (_unfinished, "holds a change that its writer did not finish"),
        (_log_alone, "cannot be read by its owner without changing something"),
        (_large, "is larger than 1024 MiB"),
        (_closed, "may not be read by its own owner"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_copied_is_refused_before_the_start(
    area: Path, sandbox: SandboxFixture, make: Callable[[Path], Path], message: str
) -> None:
    path = make(area)
    outcome = sandbox.source(b"print('ran')", [grant(path)])
    assert isinstance(outcome.error, CapabilityError) and outcome.result is None
    assert message in outcome.error.message and outcome.error.hint
    assert outcome.error.details["capability"] == grant(path)
    (denied,) = outcome.reported(events.CapabilityDenied)
    assert denied.capability == grant(path)
    assert outcome.reported(events.SandboxStart) == []


def test_a_lock_that_is_kept_is_not_waited_for_for_ever(
    area: Path, sandbox: SandboxFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_SECONDS", 1)
    path = database(area / "app.db")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as own:
        own.execute("begin exclusive")
        began = time.monotonic()
        outcome = sandbox.source(b"print('ran')", [grant(path)])
        assert isinstance(outcome.error, CapabilityError)
        assert "could not be copied within 1 s" in outcome.error.message
        assert time.monotonic() - began < 30
    sandbox.source(b"pass", [grant(path)]).assert_clean()


def test_a_run_that_is_cancelled_does_not_wait_for_a_lock(area: Path) -> None:
    path = database(area / "app.db")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as own:
        own.execute("begin exclusive")

        async def cancelled() -> None:
            run = asyncio.ensure_future(omnibase.arun(b"print(1)", capabilities=[grant(path)]))
            await asyncio.sleep(1)
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run

        began = time.monotonic()
        asyncio.run(cancelled())
        assert time.monotonic() - began < 20  # the lock is waited for 30 s


_KILLED = """
import os, sys
import omnibase
print(os.getpid(), flush=True)
omnibase.run(b"print(1)", capabilities=[sys.argv[1]])
"""


def test_the_worker_ends_with_whoever_started_it(area: Path, state_dir: Path) -> None:
    path = database(area / "app.db")

    def workers() -> list[str]:
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
                found += [entry.name] if b"/worker.py" in command and b"app.db" in command else []
        return found

    def settled(wanted: bool) -> bool:
        deadline = time.monotonic() + 20
        while bool(workers()) is not wanted and time.monotonic() < deadline:
            time.sleep(0.02)
        return bool(workers()) is wanted

    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as own:
        own.execute("begin exclusive")
        with subprocess.Popen([sys.executable, "-c", _KILLED, grant(path)]) as process:
            assert settled(True)
            time.sleep(0.5)  # until it has entered its jail
            process.kill()
        assert settled(False)
    state.sweep(state_dir)  # as the next process does


def test_whatever_the_umask_is(area: Path, sandbox: SandboxFixture) -> None:
    path = database(area / "app.db")
    os.chown(path, 1234, 1234)
    before = os.umask(0o077)
    try:
        outcome = sandbox.source(read("select sum(a) from t"), [grant(path)], args=[str(path)])
    finally:
        os.umask(before)
    outcome.assert_clean()
    assert outcome.stdout == "[(6,)]\n"


@pytest.mark.parametrize("seed", range(2))
def test_a_hostile_file_is_copied_or_refused(
    area: Path, sandbox: SandboxFixture, seed: int
) -> None:
    """Bytes anywhere in the file and in its log are changed: SQLite parses them in the jail."""
    chance = random.Random(seed)
    for number in range(6):
        path = database(area / f"{number}.db", rows=500)
        _left_by_a_crash(path, "wal")
        for name in (path, path.with_name(f"{path.name}-wal")):
            content = bytearray(name.read_bytes())
            for _ in range(chance.choice((1, 5, 50))):
                content[chance.randrange(len(content))] = chance.randrange(256)
            name.write_bytes(content)
        try:
            with (
                in_namespace(path) as copy,
                contextlib.suppress(sqlite3.Error),
                contextlib.closing(sqlite3.connect(copy)) as found,
            ):
                found.execute("select count(*) from t").fetchall()
        except CapabilityError as error:
            assert error.hint and error.details["capability"] == grant(path)
    path = database(area / "whole.db")
    sandbox.source(read("select sum(a) from t"), [grant(path)], args=[str(path)]).assert_clean()


@pytest.mark.threat("T-EXEC-20")
def test_a_link_swapped_in_leads_nowhere(area: Path, sandbox: SandboxFixture) -> None:
    """The worker's jail holds the directory alone: a link out of it cannot be followed."""
    secret, path = database(area / "secret.db", rows=50), area / "inner" / "app.db"
    path.parent.mkdir()
    stop = threading.Event()

    def swap() -> None:
        draft = path.parent / "draft"
        while not stop.is_set():
            draft.symlink_to("../secret.db")
            draft.replace(path)
            database(draft)
            draft.replace(path)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(6):
            ask = read("select count(*) from t")
            outcome = sandbox.source(ask, [grant(path)], args=[str(path)])
            assert isinstance(outcome.error, CapabilityError) or outcome.stdout == "[(3,)]\n"
    finally:
        stop.set()
        thread.join()
    assert secret.exists()


@pytest.mark.parametrize("suffix", ["-journal", "-wal", "-shm"])
def test_a_pipe_beside_it_is_not_waited_for(
    area: Path, sandbox: SandboxFixture, suffix: str
) -> None:
    path = database(area / "app.db")
    os.mkfifo(f"{path}{suffix}")
    ask = read("select count(*) from t")
    outcome = sandbox.source(ask, [grant(path)], args=[str(path)])
    assert isinstance(outcome.error, CapabilityError)
    assert f"`app.db{suffix}` beside it, which is not a regular file" in outcome.error.message
    os.unlink(f"{path}{suffix}")
    granted = sandbox.source(ask, [grant(path)], args=[str(path)])
    granted.assert_clean()
    assert granted.stdout == "[(3,)]\n"


@pytest.mark.threat("T-EXEC-20")
def test_no_link_in_the_directory_is_followed(
    area: Path, sandbox: SandboxFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Swapped in after the walk, it would give what the file's owner may read beside it."""
    path, kept = area / "app.db", area / "kept"
    kept.mkdir(mode=0o700)
    database(kept / "secret.db", rows=50)
    database(path)
    walked = copying._opened

    @contextlib.contextmanager
    def swapped(one: DatabaseGrant) -> Iterator[int]:
        with walked(one) as parent:
            yield parent
            (area / "draft").symlink_to("kept/secret.db")
            (area / "draft").replace(path)

    with monkeypatch.context() as patched:
        patched.setattr(copying, "_opened", swapped)
        outcome = sandbox.source(read("select count(*) from t"), [grant(path)], args=[str(path)])
    assert isinstance(outcome.error, CapabilityError)
    assert outcome.error.details["capability"] == grant(path)
    assert path.is_symlink() and not outcome.reported(events.DatabaseCopied)
    path.unlink()
    granted = sandbox.source(
        read("select count(*) from t"), [grant(database(path))], args=[str(path)]
    )
    granted.assert_clean()
    assert granted.stdout == "[(3,)]\n"


def test_a_database_in_a_granted_tree_and_in_scratch(area: Path, sandbox: SandboxFixture) -> None:
    path = database(area / "app.db")
    ask = read("select sum(a) from t")
    for caps in ([f"FILE_READ:{area}/**"], [f"FILE_READ:{path}"], [f"FILE_WRITE:{area}/**"]):
        outcome = sandbox.source(ask, [*caps, grant(path)], args=[str(path)])
        outcome.assert_clean()
        assert outcome.stdout == "[(6,)]\n"


def test_databases_of_its_own_are_the_scripts(sandbox: SandboxFixture) -> None:
    source = b"""
import sqlite3
for name in ("/tmp/own.db", "own.db", ":memory:", "", "file:own2.db?mode=rwc"):
    with sqlite3.connect(name, uri=True) as connection:
        connection.execute("create table if not exists t (a)")
        print(connection.execute("insert into t values (1)").rowcount)
"""
    outcome = sandbox.source(source)
    outcome.assert_clean()
    assert outcome.stdout == "1\n" * 5


def test_several_databases(area: Path, sandbox: SandboxFixture) -> None:
    paths = [database(area / f"{n}.db", rows=n) for n in range(1, 4)]
    source = (
        b"import sqlite3, sys\n"
        b"print([sqlite3.connect(p).execute('select count(*) from t').fetchone()[0] "
        b"for p in sys.argv[1:]])\n"
    )
    outcome = sandbox.source(source, map(grant, paths), args=map(str, paths))
    outcome.assert_clean()
    assert outcome.stdout == "[1, 2, 3]\n"
    assert len(outcome.reported(events.DatabaseCopied)) == 3


def test_the_state_directory_is_out_of_reach(state_dir: Path, sandbox: SandboxFixture) -> None:
    outcome = sandbox.source(b"print('ran')", [grant(f"{state_dir}/x.db")])
    assert isinstance(outcome.error, CapabilityError)
    assert "which no grant may" in outcome.error.message
