"""Keeping a script's output: as it comes, to a cap, with a mark where it was cut."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Output"]


class Output:
    """Both streams of a run under one cap.

    Attributes:
        total: Bytes that the script wrote, kept or not.
        truncated: Something was cut.
    """

    def __init__(self, *, limit: int, truncate: bool, sink: Callable[[str, bytes], None]) -> None:
        self._limit = limit
        self._truncate = truncate
        self._sink = sink
        self._kept: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        self.total = 0
        self.truncated = False

    def add(self, stream: str, chunk: bytes) -> bool:
        """Takes a chunk; returns whether the run may go on."""
        room = max(0, self._limit - self.total)
        self.total += len(chunk)
        kept = chunk[:room]
        if kept:
            self._keep(stream, kept)
        if len(kept) < len(chunk) and not self.truncated:
            self.truncated = True
            self._keep(stream, b"\n[output cut at %d bytes]\n" % self._limit)
        return self._truncate or not self.truncated

    def bytes(self, stream: str) -> bytes:
        """What was kept of a stream."""
        return b"".join(self._kept[stream])

    def _keep(self, stream: str, chunk: bytes) -> None:
        self._kept[stream].append(chunk)
        self._sink(stream, chunk)
