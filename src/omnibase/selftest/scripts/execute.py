"""Starts a program: the host's, the interpreter, the loader, one of its own making.

Threat: T-EXEC-04
Expected: nothing starts, and `EXTERNAL_COMMAND:` with each name is on record.
Granted: with `EXTERNAL_COMMAND:true`, that command starts; the others still do not.
"""

import json
import os
import sys
from collections.abc import Callable

got: list[str] = []
refused: dict[str, str] = {}


def attempt(label: str, replace: Callable[[], object]) -> None:
    """In a child, since success would replace this process."""
    child = os.fork()
    if child == 0:
        try:
            replace()
        except OSError:
            os._exit(77)
        os._exit(78)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == 77:
        refused[label] = "OSError"
    else:
        got.append(label)


def of_its_own() -> None:
    with open("/tmp/program", "w") as file:
        file.write("#!/usr/bin/env python3\nprint('started')\n")
    os.chmod("/tmp/program", 0o755)
    os.execv("/tmp/program", ["program"])


loader = "/lib64/ld-linux-x86-64.so.2"
if "granted" not in sys.argv:
    attempt("sh", lambda: os.execv("/bin/sh", ["sh", "-c", ":"]))
    attempt("python3", lambda: os.execv("/proc/self/exe", ["python3", "-c", ""]))
    attempt("loader", lambda: os.execv(loader, [loader, "--version"]))
    attempt("program", of_its_own)
attempt("true", lambda: os.execvp("true", ["true"]))
print(json.dumps({"got": got, "refused": refused}))
