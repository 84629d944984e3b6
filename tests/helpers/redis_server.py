"""A Redis of the tests' own: in memory, on a port of the loopback, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis


def program() -> str:
    """Returns the server's program; without it the tests fail."""
    found = os.environ.get("OMNIBASE_REDIS_SERVER") or shutil.which("redis-server")
    if found is None:
        pytest.fail(
            "Redis's server is not installed: run `scripts/setup-redis.sh`, "
            "or set OMNIBASE_REDIS_SERVER to the program"
        )
    return found


@contextlib.contextmanager
def running(port: int) -> Iterator[redis.Redis]:
    """Starts a server, and ends it."""
    folder = Path(tempfile.mkdtemp(prefix="ob-redis-", dir="/tmp"))
    server = subprocess.Popen(
        [program(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    client = redis.Redis(port=port)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                if server.poll() is not None or time.monotonic() > deadline:
                    server.kill()
                    pytest.fail(f"Redis did not start: {server.communicate()[0]!r}")
                time.sleep(0.05)
        yield client
    finally:
        client.close()
        server.kill()
        server.communicate()
        shutil.rmtree(folder, ignore_errors=True)
