"""Network grants against a direct loopback connection and `runsc --network=host`.

python -m benchmarks.bench_egress [--rounds N] [--megabytes N]

It prints JSON: way → seconds and MiB/s, the medians of the rounds. One client
script, run in turns on the host, in gVisor with the host's network (which is no
sandbox for a network), and in OmniBase with a grant.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import omnibase
from omnibase.backend import backend

CLIENT = """
import json, socket, sys, time
port, megabytes = int(sys.argv[1]), int(sys.argv[2])
def connect(): return socket.create_connection(("127.0.0.1", port))
def once():
    began = time.perf_counter()
    with connect() as client:
        connected = time.perf_counter()
        client.sendall(b"p")
        client.recv(1)
        return connected - began, time.perf_counter() - began
report = {"first": once()[1]}
for name, times in zip(("connect", "byte"), zip(*(once() for _ in range(300)))):
    report[name], report[name + "_p99"] = sorted(times)[150], sorted(times)[297]
block = bytearray(1 << 18)
with connect() as client:
    began = time.perf_counter()
    client.sendall(b"u")
    for _ in range(megabytes * 4): client.sendall(block)
    client.shutdown(socket.SHUT_WR)
    client.recv(1)
    report["up"] = megabytes / (time.perf_counter() - began)
with connect() as client:
    began = time.perf_counter()
    client.sendall(b"d")
    client.shutdown(socket.SHUT_WR)
    while client.recv_into(block): pass
    report["down"] = megabytes / (time.perf_counter() - began)
print(json.dumps(report))
"""


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=256)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, _server(options.megabytes) as port:
        script = Path(directory) / "client.py"
        script.write_text(CLIENT)
        arguments = [str(port), str(options.megabytes)]
        ways: dict[str, Callable[[], dict[str, float]]] = {
            "direct loopback": lambda: _plain([sys.executable, str(script), *arguments]),
            "`runsc --network=host`": lambda: _plain(_host_mode(script, arguments, directory)),
            "a network grant": lambda: _granted(port, arguments),
        }
        found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, way in ways.items():
                found[name].append(way())
    print(json.dumps({name: _medians(reports) for name, reports in found.items()}))
    return 0


def _plain(command: list[str]) -> dict[str, float]:
    done = subprocess.run(command, check=True, capture_output=True, timeout=300)
    report: dict[str, float] = json.loads(done.stdout)
    return report


def _host_mode(script: Path, arguments: list[str], directory: str) -> list[str]:
    runner = backend().gvisor
    python = str(Path(sys.executable).resolve())
    config = {
        "ociVersion": "1.2.0",
        "process": {
            "user": {"uid": 0, "gid": 0}, "cwd": "/", "env": ["PATH=/usr/bin:/bin"],
            "args": [python, str(script), *arguments], "capabilities": {},
        },
        "root": {"path": "/", "readonly": True},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]},
    }  # fmt: skip
    (Path(directory) / "config.json").write_text(json.dumps(config))
    return [
        runner.runtime.path, f"--root={directory}/root", f"--platform={runner.platform}",
        "--network=host", "--ignore-cgroups", "run", f"--bundle={directory}",
        f"bench-{secrets.token_hex(8)}",
    ]  # fmt: skip


def _granted(port: int, arguments: list[str]) -> dict[str, float]:
    result = omnibase.run(
        CLIENT,
        args=arguments,
        capabilities=[f"NETWORK_CONNECT:127.0.0.1:{port}", "MEMORY:200MiB"],
        # The others have no limit: two processors are what the machine of the tests has.
        context=omnibase.ExecutionContext(wall_seconds=300, cpus=2),
    )
    report: dict[str, float] = json.loads(result.stdout)
    return report


@contextmanager
def _server(megabytes: int) -> Iterator[int]:
    """Serves in a process of its own: the broker has its interpreter to itself."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        child = os.fork()
        if child == 0:
            _serve(listener, megabytes)
        try:
            yield listener.getsockname()[1]
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _serve(listener: socket.socket, megabytes: int) -> NoReturn:
    """Answers ``p`` with a byte, takes what follows ``u``, gives plenty for ``d``."""

    def handle(connection: socket.socket) -> None:
        buffer = bytearray(1 << 18)
        with connection:
            kind = connection.recv(1)
            if kind == b"u":
                while connection.recv_into(buffer):
                    pass
            if kind == b"d":
                for _ in range(megabytes * 4):
                    connection.sendall(buffer)
            else:
                connection.sendall(b"x")

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=handle, args=(connection,), daemon=True).start()


def _medians(reports: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(report[key] for report in reports) for key in reports[0]}


if __name__ == "__main__":
    sys.exit(main())
