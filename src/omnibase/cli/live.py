"""The script's output, passed on while it runs.

A thread of its own writes it: a reader that stalls must hold up neither the
run's deadline nor the reading of the trace. What waits is bounded by the run's
output limit.
"""

from __future__ import annotations

import codecs
import os
import queue
import threading
from typing import Final

from omnibase.cli import console

__all__ = ["Live"]

_FDS: Final = {"stdout": 1, "stderr": 2}


class Live:
    """A callback for ``run(on_output=…)``; bytes stay bytes, but not on a terminal.

    Raises:
        Closed, Unwritable: From the call after a write failed, and from `close`.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[str, bytes] | None] = queue.SimpleQueue()
        self._failure: Exception | None = None
        self._filters = {name: _Filter() for name, fd in _FDS.items() if os.isatty(fd)}
        self._thread = threading.Thread(target=self._write_all, name="omnibase-live", daemon=True)
        self._thread.start()

    def __call__(self, stream: str, chunk: bytes) -> None:
        """Takes a chunk of output."""
        if self._failure is not None:
            raise self._failure
        self._queue.put((stream, chunk))

    def close(self) -> None:
        """Waits until everything is written."""
        self._queue.put(None)
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _write_all(self) -> None:
        try:
            while (item := self._queue.get()) is not None:
                stream, chunk = item
                shown = self._filters.get(stream)
                console.write(_FDS[stream], chunk if shown is None else shown.feed(chunk))
            for stream, shown in self._filters.items():
                console.write(_FDS[stream], shown.feed(b"", last=True))
        except Exception as failure:  # whatever it is, it is not lost with this thread
            self._failure = failure


class _Filter:
    """Makes bytes harmless to a terminal: escapes stand for control characters."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def feed(self, chunk: bytes, *, last: bool = False) -> bytes:
        text = self._decoder.decode(chunk, last)
        return text.translate(console.TERMINAL_ESCAPES).encode("utf-8", "backslashreplace")
