"""Reads each path that it is given, by every way round the plain name.

Threat: T-EXEC-01, T-EXEC-26, T-ORCH-13
Expected: no way reads anything, and `FILE_READ:` with the path is on record.
Granted: with that capability, each way reads the file.
"""

import ctypes
import json
import os
import sys
from collections.abc import Callable

libc = ctypes.CDLL(None, use_errno=True)
got: list[str] = []
refused: dict[str, str] = {}


def attempt(label: str, read: Callable[[], object]) -> None:
    try:
        read()
        got.append(label)
    except OSError as error:
        refused[label] = type(error).__name__


def plain(path: str, directory: int | None = None) -> None:
    fd = os.open(path, os.O_RDONLY, dir_fd=directory)
    os.read(fd, 1)
    os.close(fd)


def by_link(path: str) -> None:
    link = f"/tmp/link-{len(got) + len(refused)}"
    os.symlink(path, link)
    plain(link)


def by_c(path: str) -> None:
    if libc.open(path.encode(), os.O_RDONLY) < 0:
        raise OSError(ctypes.get_errno(), "open")


for target in sys.argv[1:]:
    name = target.lstrip("/")
    attempt(f"{target}", lambda: plain(target))
    attempt(f"{target} by ..", lambda: plain("/tmp/" + "../" * 9 + name))
    attempt(f"{target} by /proc", lambda: plain("/proc/self/root/" + name))
    attempt(f"{target} by a link", lambda: by_link(target))
    attempt(f"{target} by a directory", lambda: plain(name, os.open("/", os.O_PATH)))
    attempt(f"{target} by C", lambda: by_c(target))
print(json.dumps({"got": got, "refused": refused}))
