"""Signals and searches the process that looks after it, and writes to every descriptor.

Threat: T-EXEC-18
Expected: each is refused, and the signals are on record.
Granted: a child of its own gets the same signal.
"""

import json
import os
import signal
import struct
import sys
from collections.abc import Callable

FORGED = struct.pack("<HHI", 8, 1, 0)  # the header of the trace's first message
got: list[str] = []
refused: dict[str, str] = {}


def attempt(label: str, action: Callable[[], object]) -> None:
    try:
        action()
        got.append(label)
    except OSError as error:
        refused[label] = type(error).__name__


def a_child() -> None:
    child = os.fork()
    if child == 0:
        signal.pause()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


if "granted" in sys.argv:
    attempt("its own child", a_child)
else:
    for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM):
        attempt(f"{number.name} to PID 1", lambda: os.kill(1, number))
    attempt("memory of PID 1", lambda: open("/proc/1/mem", "rb").close())
    for fd in range(3, 64):
        attempt("a descriptor", lambda: os.write(fd, FORGED))
print(json.dumps({"got": sorted(set(got)), "refused": refused}))
