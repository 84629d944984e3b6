"""The files of a log: numbered segments, and how the end of one is found."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final

from omnibase.core.audit.chain import GENESIS, MAX_RECORD_BYTES, Head, Record, parse

__all__ = ["LOCK", "Tail", "find_tail", "header_of", "latest_records", "numbers", "open_segment",
           "segment_name"]  # fmt: skip

LOCK: Final = "lock"
_WINDOW: Final = 16 << 10
_MAX_TAIL: Final = 2 * MAX_RECORD_BYTES
_MOST: Final = 1 << 20


def segment_name(number: int) -> str:
    """Returns the file name of a segment."""
    return f"{number:08d}.jsonl"


def numbers(directory: Path) -> list[int]:
    """Returns the numbers of a log's segments in order; none if the directory is missing.

    Raises:
        OSError: The directory cannot be read.
    """
    found = []
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    for name in names:
        number, _, kind = name.partition(".")
        if kind == "jsonl" and len(number) == 8 and number.isascii() and number.isdigit():
            found.append(int(number))
    return sorted(found)


def open_segment(path: Path, flags: int = os.O_RDONLY) -> int:
    """Opens a segment, which must be a regular file and no link.

    Raises:
        OSError: It cannot be opened, or is something else.
    """
    fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return fd


def header_of(fd: int) -> Record | None:
    """Returns the first record of a segment, if it is a header."""
    first = os.pread(fd, 4096, 0).partition(b"\n")[0]
    record = parse(first)
    return record if record is not None and record.kind == "segment" else None


class Tail:
    """The end of a segment. No tuple: making that class would take longer than all of its use.

    Attributes:
        head: Of its last record.
        end: Where that record's line ends; what is behind was not written whole.
        complete: Whether the line has its end; else only that is missing.
        junk_bytes: Length of what is behind.
        junk_sha256: Digest of it.
    """

    __slots__ = ("complete", "end", "head", "junk_bytes", "junk_sha256")

    def __init__(self, head: Head, end: int, complete: bool, junk: bytes) -> None:
        self.head, self.end, self.complete = head, end, complete
        self.junk_bytes, self.junk_sha256 = len(junk), sha256(junk).hexdigest()


def find_tail(fd: int, size: int) -> Tail:
    """Finds the last record of a segment, from its end backwards.

    Raises:
        OSError: It has none in its last 16 MiB.
    """
    window = _WINDOW
    while True:
        start = max(0, size - window)
        data = _read(fd, start, size)
        for record, begin, end in _backwards(data, whole=start == 0):
            if end == len(data):
                # Without its line feed: is it the record that was being written?
                before = next((r for r, _, _ in _backwards(data[:begin], whole=start == 0)), None)
                if before is None and start:
                    break
                if not record.continues(before.head if before else GENESIS):
                    continue
            junk = data[end + 1 :]
            place = start + min(end + 1, len(data))
            return Tail(record.head, place, end < len(data), junk)
        if start == 0 or window >= _MAX_TAIL:
            raise OSError(errno.EIO, "the end of the audit log is damaged; verify it")
        window = min(window * 16, _MAX_TAIL)


def latest_records(fd: int, size: int) -> Iterator[Record]:
    """Yields the records of a segment, the last first; reads no more of it than it has to.

    Args:
        fd: The segment.
        size: How much of it to look at, in bytes; a line that goes on behind that is left out.
    """
    piece, end, rest, ended = _WINDOW, size, b"", False
    while end > 0:
        start = max(0, end - piece)
        # The rest is the end of a line whose beginning is in this piece, or before it.
        first, *lines = (_read(fd, start, end) + rest).split(b"\n")
        if lines and not ended:
            del lines[-1]  # behind the last line feed: not written whole, or nothing
            ended = True
        if start == 0 and ended:
            lines.insert(0, first)
        for line in reversed(lines):
            record = parse(line)
            if record is not None:
                yield record
        piece, end, rest = min(2 * piece, _MOST), start, first


def _read(fd: int, start: int, end: int) -> bytes:
    parts = []
    while start < end and (part := os.pread(fd, end - start, start)):
        parts.append(part)
        start += len(part)
    return b"".join(parts)


def _backwards(data: bytes, *, whole: bool) -> Iterator[tuple[Record, int, int]]:
    """Yields the records in a piece of a file, the last first, and where each is in it."""
    end = len(data)
    if data.endswith(b"\n"):
        end -= 1
    while end >= 0:
        begin = data.rfind(b"\n", 0, end) + 1
        if begin == 0 and not whole:
            return
        record = parse(data[begin:end])
        if record is not None:
            yield record, begin, end
        end = begin - 1
