"""What the code of a call says of itself: text that it may have made up. Pure."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple, Protocol

from omnibase.core.sandbox.script_error import ScriptError, parse_report

__all__ = ["MAX_BYTES", "Report", "parse"]

MAX_BYTES: Final = 60_000
"""Longest report; a pipe holds it."""

_MAGIC: Final = b"OBS1"
_HEADER: Final = struct.Struct("<4sII")
_NONE: Final = 0xFFFFFFFF
_MOST_VALUE_BYTES: Final = 16_384
_MOST_CODE: Final = 255


class _Scrub(Protocol):
    def __call__(self, text: str, /, *, cut: bool) -> str: ...


class Report(NamedTuple):
    """How a call ended, as its code's own interpreter told.

    Attributes:
        exit_code: 0, 1 after an exception, or that of a ``SystemExit``.
        value: ``repr`` of the last expression's value, at most 16 KiB; ``None`` if there
            was none.
        error: The exception that it did not catch.
    """

    exit_code: int
    value: str | None = None
    error: ScriptError | None = None


_UNTOLD: Final = Report(1)


def parse(data: bytes, scrub: _Scrub) -> Report:
    """Reads a report; one that is none counts as a failure that says nothing.

    Args:
        data: ``OBS1``, the exit code and the length of the value (32 bits, little-endian;
            all ones for none), the value in UTF-8, and the exception as `parse_report`
            takes it, if there was one.
        scrub: Takes secrets out of text.
    """
    if len(data) > MAX_BYTES or len(data) < _HEADER.size:
        return _UNTOLD
    magic, code, size = _HEADER.unpack_from(data)
    rest = data[_HEADER.size :]
    if magic != _MAGIC or code > _MOST_CODE:
        return _UNTOLD
    value = None
    if size != _NONE:
        if size > min(len(rest), _MOST_VALUE_BYTES):
            return _UNTOLD
        cut = size > _MOST_VALUE_BYTES - 4
        value = scrub(rest[:size].decode("utf-8", "backslashreplace"), cut=cut)
        rest = rest[size:]
    error = parse_report(rest, scrub) if rest else None
    return Report(code, value, error)
