"""The runs by which ``omnibase doctor`` finds out whether a sandbox does what it should."""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
from typing import Final

from omnibase import api
from omnibase.cli import console
from omnibase.cli.doctor import Check
from omnibase.core.context import ExecutionContext
from omnibase.core.sandbox.commands import finding
from omnibase.errors import OmniBaseError

__all__ = ["grants_run", "smoke_run"]

_SMOKE: Final = b"""\
print("ok", flush=True)
try:
    open("/etc/passwd")
except PermissionError:
    pass
"""

# Of what is granted: a secret, a connection to a port of this host, and a command.
_GRANTED: Final = b"""\
import socket, subprocess, sys
print(open("/run/secrets/DOCTOR").read(), flush=True)
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10) as client:
    client.sendall(b"hello")
print(subprocess.run(["true"]).returncode, flush=True)
"""


def smoke_run() -> list[Check]:
    """Looks whether a script runs, and whether what it is denied is reported."""
    began = time.monotonic()
    result = api.run(_SMOKE, context=ExecutionContext(on_violation="record"))
    seconds = time.monotonic() - began
    name, fix = "smoke run", "report this with the output of `omnibase doctor --json`"
    seen = [violation.capability for violation in result.violations]
    if result.exit_code != 0 or result.stdout != b"ok\n":
        detail = f"exit {result.exit_code}: {result.stderr.decode('utf-8', 'replace')[-200:]}"
        return [Check(name=name, status="failed", detail=detail, fix=fix)]
    if seen != ["FILE_READ:/etc/passwd"]:
        detail = f"a denied file was not reported as such: {seen}"
        return [Check(name=name, status="failed", detail=detail, fix=fix)]
    peak = console.size(result.usage.peak_memory_bytes)
    detail = f"a script ran in {seconds:.2f} s with {peak}, and a denied file was reported"
    return [Check(name=name, status="ok", detail=detail)]


def grants_run() -> list[Check]:
    """Looks whether a secret, a connection and a command that are granted get through."""
    command, problem = ["EXTERNAL_COMMAND:true"], None
    try:
        finding.check("true")
    except OmniBaseError as error:
        command, problem = [], error.message
    value, got = secrets.token_hex(16), b""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = api.run(
            _GRANTED, args=[str(port)], secrets={"DOCTOR": value},
            capabilities=["SECRET_ACCESS:DOCTOR", f"NETWORK_CONNECT:127.0.0.1:{port}", *command],
            context=ExecutionContext(on_violation="record"),
        )  # fmt: skip
        server.settimeout(0.5)  # whatever was sent has arrived
        with contextlib.suppress(OSError):
            client, _ = server.accept()
            with client:
                client.settimeout(0.5)
                got = client.recv(64)
    said = result.stderr.decode("utf-8", "replace")[-200:].strip()
    fix = "grants of this kind will not work; report this with `omnibase doctor --json`"
    checks = []
    for name, works, detail in (
        ("secrets", result.stdout.startswith(b"***DOCTOR***\n"),
         "a script read one, and it was taken out of its output"),
        ("network grants", got == b"hello",
         "a granted port of this host was reached through the broker"),
        ("commands", result.stdout.endswith(b"\n0\n"), "a granted command was started"),
    ):  # fmt: skip
        if works:
            checks.append(Check(name=name, status="ok", detail=detail))
        else:
            told = [*(f"{one.target}: {one.reason}" for one in result.unreached), said]
            if name == "commands" and problem is not None:
                told = [problem]
            detail = "; ".join(filter(None, told)) or "nothing came through"
            checks.append(Check(name=name, status="warning", detail=detail, fix=fix))
    return checks
