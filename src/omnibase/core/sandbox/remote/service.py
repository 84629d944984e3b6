"""The daemon's end: a socket, who is let in, and one thread for each connection."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from omnibase.core.sandbox.remote.link import Link, Peer, peer_of
from omnibase.core.sandbox.remote.serving import Client
from omnibase.core.sandbox.runner import SandboxRunner
from omnibase.errors import SandboxUnavailable

__all__ = ["Service"]

MOST_CLIENTS: Final = 256
_BACKLOG: Final = 128
_SEND_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 0.1
_WAKE_SECONDS: Final = 0.5  # a signal that another thread got is handled then
_MOST_HELD_BYTES: Final = 1 << 30

_log = logging.getLogger("omnibase.pool")


class Service:
    """Lets processes of the same user have their runs done by a runner.

    Args:
        path: Where it listens; what is there is replaced.
        runner: Does the runs.
        version: Clients of another are refused.
        status: What there is to tell, besides what the service itself knows.
        on_refused: Told who was not let in, and why.

    Raises:
        SandboxUnavailable: It cannot listen there.
    """

    def __init__(
        self,
        path: Path,
        runner: SandboxRunner,
        *,
        version: str,
        status: Callable[[], dict[str, Any]] = dict,
        on_refused: Callable[[Peer, str], None] = lambda _peer, _reason: None,
    ) -> None:
        self.runner = runner
        self.version = version
        self._path = path
        self._tell_status = status
        self._on_refused = on_refused
        self._lock = threading.Lock()
        self._clients: dict[Client, int] = {}  # and how many bytes of theirs are held
        self._running: set[Client] = set()
        self._refused = 0
        self._began = time.monotonic()
        self._draining = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._listener = socket.socket(
            socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            path.unlink(missing_ok=True)
            self._listener.bind(str(path))  # nobody else gets as far as its directory
            os.chmod(path, 0o600)
            self._listener.listen(_BACKLOG)
        except OSError as error:
            self._close()
            raise SandboxUnavailable(
                f"the pool cannot listen on `{path}`: {error.strerror}",
                hint="set `OMNIBASE_STATE_DIR` to a directory that is on disk and writable",
            ) from error

    def serve(self) -> None:
        """Serves until it is to drain or to stop, and all runs have ended."""
        poller = select.poll()
        poller.register(self._listener, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        try:
            while not (self._draining and not self._running):
                ready = {fd for fd, _ in poller.poll(_WAKE_SECONDS * 1000)}
                if self._wake in ready:
                    with contextlib.suppress(BlockingIOError):
                        os.eventfd_read(self._wake)
                if self._listener.fileno() in ready:
                    self._accept()
        finally:
            self._path.unlink(missing_ok=True)
            self.stop()
            with self._lock:
                clients = list(self._clients)
            for client in clients:
                client.hang_up()
            self._close()

    def drain(self) -> None:
        """Takes no more runs; `serve` returns once those that there are have ended."""
        with self._lock:
            self._draining = True
            self._look()

    def stop(self) -> None:
        """Ends all runs, and takes no more."""
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            client.cancel()
        self.drain()

    def hold(self, client: Client, size: int) -> None:
        """Notes how large a client's request is.

        Raises:
            SandboxUnavailable: Too much would be held at one time.
        """
        with self._lock:
            if sum(self._clients.values()) + size > _MOST_HELD_BYTES:
                raise SandboxUnavailable(
                    "the pool holds too much input for others",
                    hint="try later, or leave out `--pool`",
                )
            self._clients[client] = size

    def begin(self, client: Client) -> bool:
        """Notes that a client's run begins, if it still may."""
        with self._lock:
            if not self._draining:
                self._running.add(client)
            return not self._draining

    def finished(self, client: Client) -> None:
        """Notes that it has ended."""
        with self._lock:
            self._running.discard(client)
            self._look()

    def status(self) -> dict[str, Any]:
        """Tells how it is doing."""
        return {
            "pid": os.getpid(),
            "version": self.version,
            "uptime_seconds": round(time.monotonic() - self._began, 3),
            "draining": self._draining,
            "clients": len(self._clients),
            "clients_running": len(self._running),
            "clients_refused": self._refused,
            **self._tell_status(),
        }

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:  # no descriptor is left: those who wait, wait
            _log.warning("nobody can be let in: %s", error)
            time.sleep(_PAUSE_SECONDS)
            return
        with contextlib.ExitStack() as stack:
            stack.callback(connection.close)
            peer = peer_of(connection)
            if peer.uid != os.geteuid():
                self._refuse(peer, "it is of another user")
                return
            if len(self._clients) >= MOST_CLIENTS:
                self._refuse(peer, f"{MOST_CLIENTS} clients are connected")
                return
            connection.setblocking(True)
            client = Client(self, Link(connection, _SEND_SECONDS))
            with self._lock:
                self._clients[client] = 0
            try:
                client.start(self._forget)
            except RuntimeError as error:
                self._forget(client)
                self._refuse(peer, str(error))
                return
            stack.pop_all()

    def _refuse(self, peer: Peer, reason: str) -> None:
        self._refused += 1
        _log.warning("process %d of user %d was refused: %s", peer.pid, peer.uid, reason)
        self._on_refused(peer, reason)

    def _forget(self, client: Client) -> None:
        with self._lock:
            self._clients.pop(client, None)

    def _look(self) -> None:
        """Has `serve` look whether it is over."""
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    def _close(self) -> None:
        self._listener.close()
        with self._lock:
            os.close(self._wake)
            self._wake = -1
