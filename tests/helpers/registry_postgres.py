"""A PostgreSQL of the tests' own: a fresh cluster on a Unix socket, gone afterwards."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

_PR_SET_PDEATHSIG = 1  # prctl(2)


def binaries() -> Path:
    """Returns the directory of `initdb` and `postgres`; without them the tests fail."""
    named = os.environ.get("OMNIBASE_POSTGRES_BIN")
    on_path = shutil.which("initdb")
    packaged = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name)
    )
    candidates = [Path(named)] if named else []
    candidates += [Path(on_path).resolve().parent] if on_path else []
    for folder in [*candidates, *reversed(packaged)]:
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    pytest.fail(
        "PostgreSQL's server is not installed: run `scripts/setup-postgres.sh`, "
        "or set OMNIBASE_POSTGRES_BIN to the directory of `initdb`"
    )


@dataclass
class PrivatePostgres:
    """A running server; each `database()` is new."""

    folder: Path
    port: int | None = None
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://omnibase@/{name}?host={self.folder}"

    def connect(self, name: str) -> psycopg.Connection:
        return psycopg.connect(
            host=str(self.folder), port=self.port, user="omnibase", dbname=name, autocommit=True
        )

    def database(self) -> str:
        """Makes an empty database and returns its URL."""
        name = f"registry_{next(self.numbers)}"
        with self.connect("postgres") as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        return self.url(name)


def _user() -> int | None:
    """Returns who runs the server: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_uid
    pytest.fail("there is neither a user `postgres` nor `nobody` to run PostgreSQL as")


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


@contextlib.contextmanager
def running(port: int | None = None, tls: Path | None = None) -> Iterator[PrivatePostgres]:
    """Starts a server in a directory of its own, and removes both.

    Args:
        port: Of the loopback, if it is to listen there too.
        tls: A folder of `tls.certificate`, if it is to speak TLS.
    """
    programs = binaries()
    # Short: a socket's path has a limit.
    folder = Path(tempfile.mkdtemp(prefix="ob-pg-", dir="/tmp"))
    user = _user()
    if user is not None:
        os.chown(folder, user, -1)
    run_as = {} if user is None else {"user": user, "group": pwd.getpwuid(user).pw_gid}
    if user is not None:
        run_as["extra_groups"] = []
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(folder)}
    data = folder / "data"
    listen = ["-c", f"listen_addresses={'127.0.0.1' if port else ''}"]
    listen += ["-p", str(port)] if port else []
    if tls is not None:
        for name in ("server.pem", "server.key"):
            copy = Path(shutil.copy(tls / name, folder))
            copy.chmod(0o600)
            if user is not None:
                os.chown(copy, user, -1)
        listen += ["-c", "ssl=on", "-c", f"ssl_cert_file={folder}/server.pem"]
        listen += ["-c", f"ssl_key_file={folder}/server.key"]
    server = None
    log = folder / "server.log"
    try:
        made = subprocess.run(
            [
                programs / "initdb", "--pgdata", data, "--username", "omnibase", "--auth", "trust",
                "--encoding", "UTF8", "--no-sync", "--no-instructions",
            ],
            check=False, capture_output=True, text=True, env=environment, cwd="/", timeout=120,
            **run_as,
        )  # fmt: skip
        if made.returncode:
            pytest.fail(f"initdb failed: {made.stdout}{made.stderr}")
        with log.open("wb") as output:
            server = subprocess.Popen(
                [
                    programs / "postgres", "-D", data, "-k", folder, *listen,
                    "-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=60",
                ],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, cwd="/",
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - one thread runs here
                **run_as,
            )  # fmt: skip
        postgres = PrivatePostgres(folder, port)
        deadline = time.monotonic() + 60
        while True:
            try:
                postgres.connect("postgres").close()
                break
            except psycopg.OperationalError:
                if server.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"PostgreSQL did not start: {log.read_text(errors='replace')}")
                time.sleep(0.05)
        yield postgres
    finally:
        if server is not None and server.poll() is None:
            server.send_signal(signal.SIGINT)
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.send_signal(signal.SIGQUIT)
                server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)
