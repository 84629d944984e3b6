"""Telling what bytes are: by exact magic numbers, else as text. Pure.

The bytes are hostile, so nothing here decodes a picture or a table: a kind says how
to look at them, not that they are well-formed.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from typing import Final

from omnibase.core.artifacts.store import Kind

__all__ = ["Recogniser"]

# Prefix, offset and more bytes there, kind, media type. From each format's specification.
_MAGIC: Final[tuple[tuple[bytes, int, bytes, Kind, str], ...]] = (
    (b"\x89PNG\r\n\x1a\n", 12, b"IHDR", "image", "image/png"),
    (b"\xff\xd8\xff", 0, b"", "image", "image/jpeg"),
    (b"GIF87a", 0, b"", "image", "image/gif"),
    (b"GIF89a", 0, b"", "image", "image/gif"),
    (b"RIFF", 8, b"WEBP", "image", "image/webp"),
    (b"II*\0", 0, b"", "image", "image/tiff"),
    (b"MM\0*", 0, b"", "image", "image/tiff"),
    (b"ARROW1\0\0", 0, b"", "table", "application/vnd.apache.arrow.file"),
    (b"%PDF-", 0, b"", "binary", "application/pdf"),
    (b"SQLite format 3\0", 0, b"", "binary", "application/vnd.sqlite3"),
    (b"PK\x03\x04", 0, b"", "binary", "application/zip"),
    (b"\x1f\x8b\x08", 0, b"", "binary", "application/gzip"),
)
_PARQUET: Final = b"PAR1"  # at both ends
_HEAD: Final = 1 << 16
_ROWS: Final = 64
_NO_TEXT: Final = re.compile(r"[\0-\x08\x0b\x0e-\x1f\x7f-\x9f]")
# Nothing is tried twice (possessive): else comments make it take exponential time.
_SVG: Final = re.compile(
    r"\s*+(?:<\?xml[^>]*+>\s*+)?+(?:<!--(?:(?!-->).)*+-->\s*+|<!DOCTYPE[^>]*+>\s*+)*+<svg[\s>]",
    re.S,
)
_DELIMITERS: Final = {".csv": (",", ";"), ".tsv": ("\t",)}
_OTHER: Final[tuple[Kind, str]] = ("binary", "application/octet-stream")


class Recogniser:
    """Takes all bytes, in parts, and says what they are."""

    def __init__(self) -> None:
        self._head = b""
        self._tail = b""
        self._size = 0
        self._decoder: codecs.IncrementalDecoder | None = codecs.getincrementaldecoder("utf-8")()

    def feed(self, data: bytes) -> None:
        """Takes a part."""
        self._head += data[: _HEAD - len(self._head)]
        self._tail = (self._tail + data)[-4:]
        self._size += len(data)
        self._decode(data, final=False)

    def finish(self, name: str) -> tuple[Kind, str]:
        """Returns kind and media type.

        Args:
            name: Tells a table from other text, if the text is one: it has no magic number.
        """
        self._decode(b"", final=True)
        head = self._head
        for prefix, offset, more, kind, media_type in _MAGIC:
            if head.startswith(prefix) and head[offset : offset + len(more)] == more:
                return kind, media_type
        if head.startswith(_PARQUET) and self._tail == _PARQUET and self._size > 8:
            return "table", "application/vnd.apache.parquet"
        if self._decoder is None:
            return _OTHER
        return self._text(name)

    def _decode(self, data: bytes, *, final: bool) -> None:
        if self._decoder is None:
            return
        try:
            text = self._decoder.decode(data, final)
        except UnicodeDecodeError:
            self._decoder = None
            return
        if _NO_TEXT.search(text):
            self._decoder = None

    def _text(self, name: str) -> tuple[Kind, str]:
        whole = self._size <= _HEAD
        text = self._head.decode("utf-8", "ignore")  # the last character may be cut
        name = name.lower()
        if _SVG.match(text):
            return "text", "image/svg+xml"  # it may hold scripts: no picture to be trusted
        opened = text.lstrip()[:1] in ("{", "[")
        if opened and (_is_json(text) if whole else name.endswith(".json")):
            return "json", "application/json"
        for suffix, delimiters in _DELIMITERS.items():
            if name.endswith(suffix) and any(_is_table(text, d, whole) for d in delimiters):
                return "table", "text/csv" if suffix == ".csv" else "text/tab-separated-values"
        return "text", "text/plain"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_table(text: str, delimiter: str, whole: bool) -> bool:
    """Whether the first rows have as many fields each, and more than one."""
    lines = text.splitlines()
    rows = lines[:_ROWS] if whole or len(lines) > _ROWS else lines[:-1]
    try:
        widths = {len(row) for row in csv.reader(rows, delimiter=delimiter, strict=True) if row}
    except csv.Error:
        return False
    return len(widths) == 1 and widths.pop() > 1
