"""The log: one line of fixed width for each change, each sealed over all before it.

``SEQUENCE UUID REVISION SHA256(record) SEAL``; the seal is the SHA-256 of the seal
before (64 zeros for the first) and the rest of the line. Fixed width, so that a
record's own line is found without reading the others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

__all__ = ["GENESIS", "LINE_BYTES", "LogLine", "digest"]

LINE_BYTES = 10 + 1 + 36 + 1 + 6 + 1 + 64 + 1 + 64 + 1
GENESIS = "0" * 64

_LINE = re.compile(
    rb"([0-9]{10}) ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}) ([0-9]{6}) "
    rb"([0-9a-f]{64}) ([0-9a-f]{64})\n"
)


def digest(data: bytes) -> str:
    """Returns the SHA-256 in hexadecimal digits."""
    return sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class LogLine:
    """One change: which record it made, and the seal over everything so far."""

    sequence: int
    uuid: str
    revision: int
    sha256: str
    seal: str

    @classmethod
    def after(cls, previous: LogLine | None, uuid: UUID, revision: int, record: bytes) -> LogLine:
        """Returns the line that follows another."""
        sequence = previous.sequence + 1 if previous else 1
        line = cls(sequence, str(uuid), revision, digest(record), "")
        seal = line.sealed(previous.seal if previous else GENESIS)
        return cls(sequence, line.uuid, revision, line.sha256, seal)

    def sealed(self, previous: str) -> str:
        """Returns the seal that belongs after another seal."""
        return digest(f"{previous} {self._body()}".encode())

    def _body(self) -> str:
        return f"{self.sequence:010d} {self.uuid} {self.revision:06d} {self.sha256}"

    def encode(self) -> bytes:
        """Returns the line, a line feed at its end."""
        return f"{self._body()} {self.seal}\n".encode()

    @classmethod
    def decode(cls, data: bytes) -> LogLine | None:
        """Reads a line; ``None`` if it is not one."""
        match = _LINE.fullmatch(data)
        if not match:
            return None
        sequence, uuid, revision, sha, seal = (part.decode() for part in match.groups())
        return cls(int(sequence), uuid, int(revision), sha, seal)
