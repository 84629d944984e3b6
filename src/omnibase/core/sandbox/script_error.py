"""The exception that a script ended with, as data: text that it may have made up. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Protocol

__all__ = ["MAX_REPORT_BYTES", "ScriptError", "parse_report"]

MAX_REPORT_BYTES: Final = 40_000
"""Longest report; a pipe holds it, so that nobody has to read while the script runs."""

_MAGIC: Final = b"OBE1"
_HEADER: Final = struct.Struct("<III")
_MOST: Final = (256, 4096, 32768)
_CHARACTER_BYTES: Final = 4  # of UTF-8: text is cut between two characters


class _Scrub(Protocol):
    def __call__(self, text: str, /, *, cut: bool) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptError:
    """An exception that the script did not catch, as its own interpreter told.

    The script could tell what it likes: it is text, and nothing is decided by it.

    Attributes:
        type: Qualified name, e.g. ``ValueError`` or ``json.decoder.JSONDecodeError``;
            at most 256 bytes of UTF-8.
        message: ``str(exception)``, at most 4 KiB.
        traceback: As the interpreter prints it, causes included, at most 32 KiB.
    """

    type: str
    message: str
    traceback: str

    def to_dict(self) -> dict[str, str]:
        """Returns JSON-ready data."""
        return {"type": self.type, "message": self.message, "traceback": self.traceback}


def parse_report(data: bytes, scrub: _Scrub | None = None) -> ScriptError | None:
    """Reads what came out of the guest; ``None`` if it is no report.

    Args:
        data: ``OBE1``, three lengths (32 bits, little-endian), and UTF-8 text of
            those lengths: type, message, traceback.
        scrub: Takes secrets out of text, which may be the beginning of a longer one.
    """
    start = len(_MAGIC) + _HEADER.size
    if not data.startswith(_MAGIC) or not start <= len(data) <= MAX_REPORT_BYTES:
        return None
    lengths = _HEADER.unpack_from(data, len(_MAGIC))
    if start + sum(lengths) != len(data) or any(map(int.__gt__, lengths, _MOST)):
        return None
    texts = []
    for length, most in zip(lengths, _MOST, strict=True):
        text = data[start : start + length].decode("utf-8", "backslashreplace")
        texts.append(scrub(text, cut=length > most - _CHARACTER_BYTES) if scrub else text)
        start += length
    return ScriptError(type=texts[0], message=texts[1], traceback=texts[2])
