"""What is asked of a session while it lives, from other threads, and what comes back."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

from omnibase.core.sandbox.result import RunResult

__all__ = ["CallResult", "Calls", "Pending"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallResult(RunResult):
    """How one call of a session ended; the fields of `RunResult` are of this call alone.

    ``peak_memory_bytes`` and ``scratch_bytes`` in ``usage`` are of the session until now.

    Attributes:
        call: Its number within the session, from 1.
        value: ``repr`` of the value of its last statement, if that is an expression whose
            value is not ``None``; at most 16 KiB, and untrusted text.
    """

    call: int = 0
    value: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-ready data; output is decoded as UTF-8 with replacement."""
        return {**RunResult.to_dict(self), "call": self.call, "value": self.value}


class Pending:
    """A call that was asked for.

    Attributes:
        number: Within the session, from 1.
        code: What it runs.
        token: By which its end is told in the trace: 32 hexadecimal digits, used once.
        result: How it ended, if the session goes on.
        expired: Its time is over.
    """

    def __init__(self, number: int, code: bytes) -> None:
        self.number = number
        self.code = code
        self.token = os.urandom(16).hex()
        self.result: CallResult | None = None
        self.expired = False
        self._done = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    @property
    def sha256(self) -> str:
        """Digest of the code, in hexadecimal."""
        return hashlib.sha256(self.code).hexdigest()

    def frame(self) -> bytes:
        """What the guest reads: a length (32 bits, little-endian), the token and the code."""
        return len(self.code).to_bytes(4, "little") + self.token.encode() + self.code

    def fileno(self) -> int:
        """Readable once it is over, or the session is."""
        return self._done

    def finish(self, result: CallResult | None) -> None:
        """Says that it is over, with ``None`` if the session is."""
        self.result = result
        os.eventfd_write(self._done, 1)

    def close(self) -> None:
        os.close(self._done)


class Calls:
    """From the threads that call to the one that runs the session: one call at a time.

    Attributes:
        first: Call 0: what comes before those that are asked for; the session is ready then.
        closing: It is to end.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: deque[Pending] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._over = False
        self.first = Pending(0, b"")
        self._current = self.first
        self.closing = False

    def ask(self, pending: Pending) -> bool:
        """Asks for a call; returns whether the session still takes it."""
        with self._lock:
            if self._over or self.closing:
                return False
            self._current = pending
            self._asked.append(pending)
            os.eventfd_write(self._wake, 1)
            return True

    def close(self) -> None:
        """Asks for the end of the session."""
        with self._lock:
            self.closing = True
            self._nudge()

    def nudge(self) -> None:
        """Has the session look at what has changed."""
        with self._lock:
            self._nudge()

    def _nudge(self) -> None:
        if not self._over:
            os.eventfd_write(self._wake, 1)

    def fileno(self) -> int:
        """Readable once something is asked for."""
        return self._wake

    def take(self) -> Pending | None:
        """Returns what was asked for, if it was."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        with self._lock:
            return self._asked.popleft() if self._asked else None

    def end(self) -> None:
        """Says that the session is over; a call that has no answer gets none."""
        with self._lock:
            if self._over:
                return
            self._over = True
            if self._current.result is None:
                self._current.finish(None)
            os.close(self._wake)
