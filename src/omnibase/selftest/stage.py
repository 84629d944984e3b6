"""Where a probe plays: files, listeners and a secret of this host's, and how scripts are run."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from omnibase import api
from omnibase.core import events
from omnibase.core.audit.places import decline
from omnibase.core.context import ExecutionContext
from omnibase.core.sandbox.result import RunResult
from omnibase.errors import ConfigurationError, OmniBaseError

__all__ = ["Outcome", "Stage", "clean", "description", "observed", "script", "stage"]

_SCRIPTS: Final = Path(__file__).parent / "scripts"
# Directories that are no part of the guest's own world, as `/tmp` is.
_PLACES: Final = ("/var/tmp", "/var/lib", "/srv")  # noqa: S108 - a directory of its own is made
_MARK: Final = "of the host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run came to.

    Attributes:
        result: What came out, returned or with the error.
        error: What was raised.
        events: What was on the bus.
    """

    result: RunResult | None
    error: OmniBaseError | None
    events: tuple[events.Event, ...]

    @property
    def stdout(self) -> str:
        """Standard output, decoded."""
        return "" if self.result is None else self.result.stdout.decode("utf-8", "replace")

    @property
    def report(self) -> dict[str, Any]:
        """The object that the script printed last; empty if it printed none."""
        with contextlib.suppress(ValueError, IndexError):
            said = json.loads(self.stdout.splitlines()[-1])
            if isinstance(said, dict):
                return said
        return {}

    @property
    def told(self) -> frozenset[str]:
        """Capabilities and operations that the caller was told of *and* that are on the bus."""
        if self.result is None:
            return frozenset()
        mine = {text for v in self.result.violations for text in (v.capability, v.operation)}
        bus = {
            text
            for event in self.events
            if isinstance(event.data, events.SandboxViolation)
            for text in (event.data.capability, event.data.operation)
        }
        return frozenset(text for text in mine & bus if text)

    def how(self) -> str:
        """Says how it ended, for a finding."""
        if self.error is not None:
            return f"{type(self.error).__name__}: {self.error.message}"
        if self.result is None:
            return "it has no result"
        last = self.result.stderr[-200:].decode("utf-8", "replace").strip().splitlines()[-1:]
        return f"exit {self.result.exit_code}" + "".join(f": {line}" for line in last)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Things of this host that a script may want, made for one probe.

    Attributes:
        area: A directory that scripts know the path of.
        servers: Listeners on the host's loopback.
        secret: The value of ``SELFTEST``.
        connected: What arrived at each listener, by index.
    """

    area: Path
    servers: tuple[socket.socket, ...]
    secret: str
    connected: dict[int, list[bytes]] = field(default_factory=dict)

    @property
    def names(self) -> dict[str, str]:
        """What templates may name: ``{file}``, ``{sibling}``, ``{tree}``, ``{port}``, …."""
        ports = [str(server.getsockname()[1]) for server in self.servers]
        return {
            "area": str(self.area),
            "file": str(self.area / "file.txt"),
            "sibling": str(self.area / "sibling.txt"),
            "tree": str(self.area / "tree"),
            "mark": str(self.area / "tree" / "mark"),
            "port": ports[0],
            "other": ports[1],
        }

    def fill(self, templates: Iterable[str]) -> tuple[str, ...]:
        """Puts this stage's names into templates."""
        return tuple(template.format_map(self.names) for template in templates)

    def run(
        self,
        name: str,
        grants: Iterable[str] = (),
        *,
        args: Iterable[str] = (),
        env: Mapping[str, str] | None = None,
        **quotas: Any,
    ) -> Outcome:
        """Runs ``scripts/<name>.py``, with templates in its grants and arguments."""
        return observed(
            lambda bus: api.run(
                script(name), capabilities=self.fill(grants), args=self.fill(args), env=env,
                secrets={"SELFTEST": self.secret}, artifacts=self.area / "artifacts",
                context=ExecutionContext(**quotas), bus=bus,
            )
        )  # fmt: skip

    def disturbed(self) -> str | None:
        """Says what a script has changed of this host, or sent to it."""
        for path in ("file.txt", "sibling.txt", "tree/file.txt"):
            try:
                intact = (self.area / path).read_text() == _MARK
            except OSError:
                intact = False
            if not intact:
                return f"`{path}` of the host was changed"
        if os.listdir(self.area / "tree") != ["file.txt"]:
            return "a directory of the host was changed"
        return None if not self.arrived() else "something arrived at a listener of the host"

    def arrived(self) -> dict[int, list[bytes]]:
        """Accepts what has connected; returns what was sent, by listener."""
        for index, server in enumerate(self.servers):
            with contextlib.suppress(BlockingIOError):
                while True:
                    client, _ = server.accept()
                    with client, contextlib.suppress(OSError):
                        client.settimeout(1)
                        self.connected.setdefault(index, []).append(client.recv(64))
        return self.connected


def clean(outcome: Outcome) -> str | None:
    """Says what is wrong with the run of what was granted; ``None``: nothing."""
    fine = outcome.error is None and outcome.result is not None and outcome.result.ok
    return None if fine else f"granted, it does not work: {outcome.how()}"


def script(name: str) -> bytes:
    """Returns the source of a script."""
    return (_SCRIPTS / f"{name}.py").read_bytes()


def description(name: str) -> str:
    """Returns a script's docstring."""
    return ast.get_docstring(ast.parse(script(name))) or ""


def observed(run: Callable[[events.EventBus], RunResult]) -> Outcome:
    """Runs something with a bus of its own, which writes to no audit log."""
    bus, sink = events.EventBus(), events.CollectingSink()
    decline(bus)
    bus.subscribe(sink)
    result: RunResult | None = None
    error: OmniBaseError | None = None
    try:
        result = run(bus)
    except OmniBaseError as raised:
        error, result = raised, getattr(raised, "result", None)
    finally:
        bus.close()
    return Outcome(result=result, error=error, events=sink.events)


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """Makes a stage, and takes it down."""
    area = _area()
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, area, ignore_errors=True)
        servers = []
        for _ in range(2):
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            server.setblocking(False)
            servers.append(server)
        area.chmod(0o755)
        (area / "tree").mkdir(mode=0o755)
        for name in ("file.txt", "sibling.txt", "tree/file.txt"):
            (area / name).write_text(_MARK)
        yield Stage(area=area, servers=tuple(servers), secret=secrets.token_urlsafe(24))


def _area() -> Path:
    for place in _PLACES:
        with contextlib.suppress(OSError):
            return Path(tempfile.mkdtemp(prefix="omnibase-selftest-", dir=os.path.realpath(place)))
    raise ConfigurationError(
        f"none of {', '.join(_PLACES)} can be written", hint="make `/var/tmp` writable"
    )
