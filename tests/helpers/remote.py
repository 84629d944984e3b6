"""A runner over a socket, whose other end is in this process, too."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from omnibase.core.sandbox.remote.client import RemoteRunner, socket_path
from omnibase.core.sandbox.remote.link import Peer
from omnibase.core.sandbox.remote.service import Service
from omnibase.core.sandbox.runner import (
    Cancel,
    Ended,
    GVisorRunner,
    Observer,
    RunRequest,
    SandboxRunner,
)

__all__ = ["VERSION", "Served", "served", "serving"]

VERSION = "1.2.3"


@contextmanager
def serving(
    path: Path, runner: SandboxRunner, refused: list[tuple[Peer, str]] | None = None
) -> Iterator[Service]:
    """Serves a runner while the block lasts."""
    noted = [] if refused is None else refused
    service = Service(
        path, runner, version=VERSION, on_refused=lambda peer, why: noted.append((peer, why))
    )
    thread = threading.Thread(target=service.serve)
    thread.start()
    try:
        yield service
    finally:
        service.stop()
        thread.join(30)
    assert not thread.is_alive()


@dataclass(frozen=True, slots=True)
class Served:
    """A client, and what is behind the service that it asks.

    Attributes:
        remote: Asks.
        gvisor: Does the runs.
    """

    remote: RemoteRunner
    gvisor: GVisorRunner

    def run(self, request: RunRequest, observer: Observer, cancel: Cancel) -> Ended:
        """See `SandboxRunner.run`."""
        return self.remote.run(request, observer, cancel)


@contextmanager
def served(state: Path, gvisor: GVisorRunner) -> Iterator[Served]:
    """Yields a client of one."""
    path = socket_path(state)
    with serving(path, gvisor):
        yield Served(RemoteRunner(path=path, version=VERSION), gvisor)
