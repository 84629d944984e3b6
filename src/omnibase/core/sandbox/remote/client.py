"""The end of the connection that asks: a `SandboxRunner` whose runs are in the daemon."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from omnibase.core.sandbox.remote.codec import WireError, pack
from omnibase.core.sandbox.remote.link import Frame, Link, peer_of
from omnibase.core.sandbox.remote.told import ANSWERED, arguments_of, unpack_ended, unpack_error
from omnibase.core.sandbox.runner import Cancel, Ended, Observer, RunRequest
from omnibase.errors import SandboxError, SandboxUnavailable

__all__ = ["OFFER", "RemoteRunner", "ask", "socket_path"]

OFFER: Final = "layer"
"""File beside the socket: the digest of the packages that runs of that daemon come with."""

_START: Final = "start it: `omnibase pool start`"
_SEND_SECONDS: Final = 60.0
_ANSWER_SECONDS: Final = 10.0
_PATIENCE_SECONDS: Final = 120.0
# A signal that comes just before a wait, or to another thread, does not interrupt it: its
# Python handler runs at the next wake-up.
_WAKE_SECONDS: Final = 0.2
_MAX_SOCKET_PATH: Final = 107  # sun_path of unix(7), less its NUL


def socket_path(state: Path) -> Path:
    """Returns where the daemon of a state directory listens.

    Raises:
        SandboxUnavailable: The path is too long for a socket.
    """
    path = state / "pool" / "socket"
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
        raise SandboxUnavailable(
            f"the path of the pool's socket is too long: `{path}`",
            hint="set `OMNIBASE_STATE_DIR` to a shorter path",
        )
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteRunner:
    """Has runs done by the daemon; everything was decided here, and its record is kept here.

    Attributes:
        path: Its socket.
        version: Ours; a daemon of another is refused.
    """

    path: Path
    version: str

    def run(self, request: RunRequest, observer: Observer, cancel: Cancel) -> Ended:
        """See `SandboxRunner.run`.

        Raises:
            SandboxUnavailable: No daemon is there, or it takes no more runs.
            SandboxError: It went away while the run was on.
        """
        with _connected(self.path) as link:
            blob = bytearray()
            head = {"ask": "run", "version": self.version, "request": pack(request, blob)}
            link.limit_receiving(_PATIENCE_SECONDS)
            try:
                _send(link, head, blob)
                return _Conversation(link, request, observer, cancel).serve()
            except BaseException:
                # It ends the run once we say no more, and closes once nothing is left.
                link.finish_sending()
                link.drain()
                raise


def ask(path: Path, word: str, version: str) -> dict[str, Any]:
    """Asks the daemon something else than to run; returns its answer.

    Args:
        path: Its socket.
        word: ``status``, ``drain`` or ``stop``.
        version: Ours.

    Raises:
        SandboxUnavailable: None is there.
        SandboxError: It does not answer.
    """
    with _connected(path) as link:
        link.limit_receiving(_ANSWER_SECONDS)
        _send(link, {"ask": word, "version": version}, b"")
        frame = _receive(link)
        if frame.head.keys() == {"error"}:
            raise unpack_error(frame.head["error"], frame.blob)
        return frame.head


class _Conversation:
    """One run, from here."""

    def __init__(self, link: Link, request: RunRequest, observer: Observer, cancel: Cancel) -> None:
        self._link = link
        self._request = request
        self._observer = observer
        self._cancel: Cancel | None = cancel
        # A run may wait for its place as long as it may take, and be tried again.
        self._patience = 3 * request.spec.wall_seconds + _PATIENCE_SECONDS

    def serve(self) -> Ended:
        while True:
            self._await_frame()
            frame = _receive(self._link)
            try:
                match list(frame.head):
                    case ["ended"]:
                        return unpack_ended(frame.head["ended"], frame.blob)
                    case ["error"]:
                        raise unpack_error(frame.head["error"], frame.blob)
                    case ["tell", "arguments"]:
                        self._tell(frame)
                    case _:
                        raise WireError("an unknown message")
            except WireError as error:
                raise _garbled(error) from None

    def _await_frame(self) -> None:
        poller = select.poll()
        poller.register(self._link, select.POLLIN)
        if self._cancel is not None:
            poller.register(self._cancel, select.POLLIN)
        deadline = time.monotonic() + self._patience
        while True:
            ready = {fd for fd, _ in poller.poll(_WAKE_SECONDS * 1000)}
            if self._link.fileno() in ready:
                return
            if ready and self._cancel is not None:
                poller.unregister(self._cancel)
                self._cancel = None
                _send(self._link, {"cancel": True}, b"")
            elif time.monotonic() >= deadline:
                raise SandboxError("the pool's daemon says nothing any more", hint=_RESTART)

    def _tell(self, frame: Frame) -> None:
        name = frame.head["tell"]
        values = arguments_of(name, frame.head["arguments"], frame.blob)
        answer: Any = None
        if name == "covers":
            answer = self._request.covers(*values)
        elif name == "on_started":
            self._observer.on_started(values[0], values[1], warm=values[2])
        else:
            getattr(self._observer, name.partition("/")[0])(*values)
        if name in ANSWERED:
            _send(self._link, {"answer": answer}, b"")


def _send(link: Link, head: dict[str, Any], blob: bytes | bytearray) -> None:
    try:
        link.send(head, blob)
    except WireError:
        raise SandboxError(
            "the run is too large for the pool's socket", hint="leave out `--pool`"
        ) from None
    except (BrokenPipeError, ConnectionError):
        pass  # what it said before it hung up tells why
    except BlockingIOError:
        raise SandboxError("the pool's daemon takes nothing", hint=_RESTART) from None


_RESTART: Final = "restart it: `omnibase pool stop`, `omnibase pool start`"


def _receive(link: Link) -> Frame:
    try:
        frame = link.receive()
    except (WireError, BlockingIOError) as error:
        raise _garbled(error) from None
    except OSError:
        frame = None
    if frame is None:
        raise SandboxError("the pool's daemon went away", hint=_START)
    return frame


def _garbled(error: Exception) -> SandboxError:
    return SandboxError(f"the pool's daemon does not answer as it should: {error}", hint=_RESTART)


@contextlib.contextmanager
def _connected(path: Path) -> Iterator[Link]:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        try:
            connection.connect(str(path))
            ours = peer_of(connection).uid == os.geteuid()
        except OSError as error:
            raise SandboxUnavailable(
                f"no pool is running: `{path}`: {error.strerror}", hint=_START
            ) from None
        if not ours:
            raise SandboxUnavailable(f"`{path}` is another user's", hint=_START)
        link = Link(connection, _SEND_SECONDS)
    except BaseException:
        connection.close()
        raise
    with contextlib.closing(link):
        yield link
