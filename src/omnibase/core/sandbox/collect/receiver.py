"""The host's end of the pipe: each file into one of ours, its digest taken on the way."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import select
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from omnibase.core.sandbox.collect.reports import Collected, Left
from omnibase.core.sandbox.collect.wire import Begin, Data, Decoder, LeftOut, WireError
from omnibase.core.sandbox.spec import Outlet
from omnibase.core.secrets import Scrubber

__all__ = ["Receiver"]

_CHUNK: Final = 1 << 18
_PIPE_BYTES: Final = 1 << 20
_PATIENCE_SECONDS: Final = 1.0  # for a descriptor that another thread's fork has for a moment
_UNSAID: Final = "holds the value of a secret that the run was given"


class Receiver:
    """Takes what the agent sends once the script has ended.

    Args:
        outlets: Of the run.
        directory: Where the files go; made.
        covers: Says whether a grant covers ``(type, name)``.
        scrubber: Knows what secrets the run was given.
        fd: The pipe, if the guest has its end already; closed with this.

    Attributes:
        collected: Files that came out, in order.
        left: Those that did not.
        error: Why the stream cannot be trusted, once it cannot.
    """

    def __init__(
        self,
        outlets: tuple[Outlet, ...],
        directory: Path,
        covers: Callable[[str, str], bool],
        scrubber: Scrubber,
        fd: int | None = None,
    ) -> None:
        self._outlets = outlets
        self._directory = directory
        self._covers = covers
        self._scrubber = scrubber
        self._decoder = Decoder(outlets)
        self._file: _File | None = None
        self.collected: list[Collected] = []
        self.left: list[Left] = []
        self.error: str | None = None
        directory.mkdir(mode=0o700)
        self._fd, self.guest_fd = os.pipe2(os.O_CLOEXEC) if fd is None else (fd, -1)
        os.set_blocking(self._fd, False)
        with contextlib.suppress(OSError):  # past what pipes of this user may hold
            fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._fd

    def release_guest(self) -> None:
        """Closes the guest's end, which it has now."""
        if self.guest_fd >= 0:
            os.close(self.guest_fd)
            self.guest_fd = -1

    def on_readable(self) -> bool:
        """Takes what has come; returns whether more may come.

        Raises:
            OSError: The host has no room for a file.
        """
        try:
            chunk = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return True
        if not chunk or self.error is not None:
            return bool(chunk)
        try:
            for event in self._decoder.feed(chunk):
                self._take(event)
        except WireError as error:
            self.error = str(error)
        return True

    def drain(self) -> None:
        """Takes what is left, once every writer is gone; what is cut short is an error.

        Raises:
            OSError: As `on_readable`.
        """
        while self.error is None and not self._decoder.ended:
            ready, _, _ = select.select([self._fd], [], [], _PATIENCE_SECONDS)
            if not ready or not self.on_readable():
                break
        if self.error is None and not self._decoder.ended:
            self.error = "it ends before its end"

    def close(self) -> None:
        """Frees the descriptors; the files go with the run's directory."""
        self.release_guest()
        if self._file is not None:
            self._file.out.close()
            self._file = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _take(self, event: object) -> None:
        if isinstance(event, Begin):
            self._begin(event)
        elif isinstance(event, LeftOut):
            self._leave(self._outlets[event.outlet].capability, event.name, event.reason)
        elif isinstance(event, Data):
            if self._file is not None:
                self._file.write(event.data)
        elif self._file is not None:
            self._finish(self._file)
            self._file = None

    def _begin(self, begin: Begin) -> None:
        capability = self._outlets[begin.outlet].capability
        if self._scrubber.text(begin.name) != begin.name:
            self._leave(capability, begin.name, _UNSAID)
        elif not self._covers(capability, begin.name):
            self._leave(capability, begin.name, "is not granted", denied=True)
        else:
            path = self._directory / str(len(self.collected))
            self._file = _File(capability, begin, path, self._scrubber)

    def _finish(self, file: _File) -> None:
        file.out.close()
        if file.holds_secret():
            os.unlink(file.path)
            self._leave(file.capability, file.begin.name, _UNSAID)
            return
        self.collected.append(
            Collected(
                capability=file.capability,
                name=file.begin.name,
                path=file.path,
                size=file.begin.size,
                sha256=file.digest.hexdigest(),
            )
        )

    def _leave(self, capability: str, name: str, reason: str, *, denied: bool = False) -> None:
        text = self._scrubber.text(name)
        self.left.append(Left(capability=capability, name=text, reason=reason, denied=denied))


class _File:
    """A file on its way."""

    def __init__(self, capability: str, begin: Begin, path: Path, scrubber: Scrubber) -> None:
        self.capability = capability
        self.begin = begin
        self.path = path
        self.digest = hashlib.sha256()
        self._scrubbed = scrubber.stream() if scrubber else None
        self._shown = hashlib.sha256()
        self.out: BinaryIO = open(path, "xb", buffering=0)  # noqa: SIM115

    def write(self, data: memoryview) -> None:
        self.digest.update(data)
        if self._scrubbed is not None:
            self._shown.update(self._scrubbed.feed(bytes(data)))
        while data:
            data = data[self.out.write(data) :]

    def holds_secret(self) -> bool:
        """Whether something would be taken out of it, were it output."""
        if self._scrubbed is None:
            return False
        self._shown.update(self._scrubbed.finish())
        return self._shown.digest() != self.digest.digest()
