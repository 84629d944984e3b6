"""Checkpoints: what is signed of a chain. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from omnibase.core.audit.chain import Head, Record, compact

__all__ = ["Checkpoint", "checkpoint_body"]

CHECKPOINT_DOMAIN: Final = b"omnibase.audit.checkpoint.v1\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A signature under everything up to a record.

    Attributes:
        log: Id of the log.
        head: The record just before the checkpoint, and all before it.
        time: When it was signed, RFC 3339.
        key: The public key, ``ed25519:`` and 64 hexadecimal digits.
        next: The key that signs from here on, if this is the last one by ``key``.
        signature: 128 hexadecimal digits.
    """

    log: str
    head: Head
    time: str
    key: str
    next: str | None
    signature: str

    @property
    def message(self) -> bytes:
        """The bytes that are signed."""
        return checkpoint_body(self.log, self.head, self.time, self.key, self.next)

    @classmethod
    def of(cls, record: Record) -> Checkpoint | None:
        """Reads a record's body; ``None`` if it is not exactly what a writer writes."""
        fields = record.fields()
        try:
            found = cls(
                log=fields["log"],
                head=Head.parse(fields["head"]),
                time=fields["time"],
                key=fields["key"],
                next=fields["next"],
                signature=fields["signature"],
            )
        except (KeyError, TypeError, ValueError):
            return None
        return found if found.body().encode("ascii", "replace") == record.body else None

    def body(self) -> str:
        """Returns the body of its record."""
        unsigned = self.message[len(CHECKPOINT_DOMAIN) : -1].decode("ascii")
        return f"{unsigned},{compact({'signature': self.signature})[1:]}"


def checkpoint_body(log: str, head: Head, time: str, key: str, next_key: str | None) -> bytes:
    """Returns the bytes that a checkpoint signs."""
    body = {"log": log, "head": str(head), "time": time, "key": key, "next": next_key}
    return CHECKPOINT_DOMAIN + compact(body).encode("ascii")
