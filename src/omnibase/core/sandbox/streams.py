"""A run's pipes, and keeping what comes out of them: to a cap, with a mark where it was cut."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from omnibase.core.secrets import Scrubber

__all__ = ["Output", "Pipes"]


class Output:
    """Both streams of a run under one cap.

    Attributes:
        total: Bytes that the script wrote, kept or not.
        truncated: Something was cut.
    """

    def __init__(
        self,
        *,
        limit: int,
        truncate: bool,
        sink: Callable[[str, bytes], None],
        scrubber: Scrubber | None = None,
    ) -> None:
        self._limit = limit
        self._truncate = truncate
        self._sink = sink
        self._kept = {"stdout": bytearray(), "stderr": bytearray()}
        scrubber = scrubber or Scrubber()
        self._scrubbed = {name: scrubber.stream() for name in self._kept}
        self.total = 0
        self.truncated = False

    def add(self, stream: str, chunk: bytes) -> bool:
        """Takes a chunk; returns whether the run may go on."""
        room = max(0, self._limit - self.total)
        self.total += len(chunk)
        kept = chunk[:room]
        if kept:
            self._keep(stream, self._scrubbed[stream].feed(kept))
        if len(kept) < len(chunk) and not self.truncated:
            self.truncated = True
            self._keep(stream, self._scrubbed[stream].finish(cut=True))
            self._keep(stream, b"\n[output cut at %d bytes]\n" % self._limit)
        return self._truncate or not self.truncated

    def finish(self, *, cut: bool) -> None:
        """Keeps what was held back because it may have been the beginning of a secret.

        Args:
            cut: The script was ended, perhaps in the middle of a secret.
        """
        for stream, scrubbed in self._scrubbed.items():
            self._keep(stream, scrubbed.finish(cut=cut or self.truncated))

    def kept(self, stream: str) -> bytes:
        """What was kept of a stream."""
        return bytes(self._kept[stream])

    def _keep(self, stream: str, chunk: bytes) -> None:
        if chunk:
            self._kept[stream] += chunk
            self._sink(stream, chunk)


@dataclass(slots=True)
class Pipes:
    """The host's ends of a run's pipes; -1 once closed."""

    stdin: int = -1
    stdout: int = -1
    stderr: int = -1
    control: int = -1
    report: int = -1
    guest: list[int] = field(default_factory=list)

    def open(self) -> None:
        """Makes all five; `close_all` closes whatever was made, also after an error."""
        for name, host_reads in (
            ("stdin", False), ("stdout", True), ("stderr", True), ("control", False),
            ("report", True),
        ):  # fmt: skip
            reader, writer = os.pipe2(os.O_CLOEXEC)
            host, guest = (reader, writer) if host_reads else (writer, reader)
            os.set_blocking(host, False)
            setattr(self, name, host)
            self.guest.append(guest)

    def close_guest(self) -> None:
        while self.guest:
            os.close(self.guest.pop())

    def close(self, name: str) -> None:
        fd = getattr(self, name)
        if fd >= 0:
            os.close(fd)
            setattr(self, name, -1)

    def close_all(self) -> None:
        self.close_guest()
        for name in ("stdin", "stdout", "stderr", "control", "report"):
            self.close(name)
