"""Tries one thing of each kind of capability, and tells which it got."""

import json
import os
import socket
import sqlite3
import subprocess
import sys

where = json.loads(sys.argv[1])


def connect(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"hello")
        return client.recv(5)


def content(path: str) -> str:
    with open(path) as file:
        return file.read()


def leave(path: str) -> int:
    with open(path, "w") as file:
        return file.write("left")


def database() -> object:
    with open(where["database"], "rb"):  # SQLite itself looks first, which is not on record
        return sqlite3.connect(where["database"]).execute("select 1")


def role() -> bytes:
    content("/run/secrets/pg_me")
    return connect(where["server"])


def propose() -> int:
    if os.path.isdir("/registry/out"):
        os.mkdir("/registry/out/next")
    return leave("/registry/out/next/script.py")


ATTEMPTS = {
    "FILE_READ": lambda: content(where["file"]),
    "FILE_WRITE": lambda: leave(f"{where['tree']}/new.txt"),
    "NETWORK_CONNECT": lambda: connect(where["port"]),
    "EXTERNAL_COMMAND": lambda: subprocess.run(["true"], check=True),
    "SECRET_ACCESS": lambda: content("/run/secrets/TOKEN"),
    "ARTIFACT_READ": lambda: content("/artifacts/in.txt"),
    "ARTIFACT_WRITE": lambda: leave("/artifacts/out/out.txt"),
    "DATABASE_READ": database,
    "DATABASE_WRITE": role,
    "REGISTRY_WRITE": propose,
    "REGISTRY_READ": lambda: content("/registry/report/1.0.0/script.py"),
}
got = []
for kind, attempt in ATTEMPTS.items():
    try:
        if attempt():
            got.append(kind)
    except (OSError, sqlite3.Error):
        pass
print(json.dumps({"got": got}))
