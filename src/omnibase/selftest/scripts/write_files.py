"""Changes a directory that it may at most read: a new file, new content, another name, none.

Threat: T-EXEC-02
Expected: nothing changes on the host, and `FILE_WRITE:` with the path is on record.
Granted: with that capability, each change is made.
"""

import json
import os
import sys
from collections.abc import Callable

tree = sys.argv[1]
got: list[str] = []
refused: dict[str, str] = {}


def attempt(label: str, change: Callable[[], object]) -> None:
    try:
        change()
        got.append(label)
    except OSError as error:
        refused[label] = type(error).__name__


def write(name: str, flags: int) -> None:
    fd = os.open(f"{tree}/{name}", os.O_WRONLY | flags, 0o666)
    os.write(fd, b"changed by the script")
    os.close(fd)


attempt("a new file", lambda: write("new.txt", os.O_CREAT))
attempt("new content", lambda: write("file.txt", os.O_TRUNC))
attempt("another name", lambda: os.rename(f"{tree}/file.txt", f"{tree}/other.txt"))
attempt("none", lambda: os.unlink(f"{tree}/other.txt"))
print(json.dumps({"got": got, "refused": refused}))
