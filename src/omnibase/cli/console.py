"""What the commands write: straight to the descriptors, and never raw from a stranger.

File names, process names and output come from hostile code. In our own
messages every control character is shown as an escape; output of a script is
passed through as it is, unless it goes to a terminal (see `live`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
from typing import TYPE_CHECKING, Final

from omnibase.core.printable import ESCAPES, printable

if TYPE_CHECKING:
    from omnibase.errors import OmniBaseError

__all__ = ["Closed", "Unwritable", "colour", "error", "note", "out", "printable", "report", "size"]

_COLOURS: Final = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}

_LAYOUT: Final = {ord("\n"), ord("\r"), ord("\t")}
TERMINAL_ESCAPES: Final = {code: text for code, text in ESCAPES.items() if code not in _LAYOUT}
"""For text that may lay itself out in lines."""


class Closed(Exception):
    """Whoever read our output has gone."""


class Unwritable(Exception):
    """Our output cannot be written; the text says why."""


def open_missing() -> None:
    """Opens ``/dev/null`` in place of standard descriptors that we were started without.

    Else the next file that we open would take the number, and the script's output.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def write(fd: int, data: bytes) -> None:
    """Writes all of it.

    Raises:
        Closed: The reader has gone.
        Unwritable: Anything else, e.g. a full disk.
    """
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view[:65536]) :]
        except BlockingIOError:  # inherited in that mode from our parent
            select.select([], [fd], [])
        except OSError as failure:
            if failure.errno in (errno.EPIPE, errno.EIO, errno.ECONNRESET):
                raise Closed from None
            raise Unwritable(failure.strerror or str(failure)) from None


def out(text: str) -> None:
    """Writes to standard output."""
    write(1, text.encode("utf-8", "backslashreplace"))


def note(text: str) -> None:
    """Writes a line to standard error; there is nowhere to tell that it failed."""
    with contextlib.suppress(Closed, Unwritable):
        write(2, text.encode("utf-8", "backslashreplace") + b"\n")


def colour(name: str, text: str, fd: int = 2) -> str:
    """Colours a text if the descriptor is a terminal that wants it (``NO_COLOR``)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not os.isatty(fd):
        return text
    return f"\x1b[{_COLOURS[name]}m{text}\x1b[0m"


def error(message: str, hint: str | None = None) -> None:
    """Prints an error and what to do about it."""
    prefix = colour("red", "omnibase: error:")
    note(f"{prefix} {printable(message, 2000)}")
    if hint:
        note(f"{colour('bold', 'hint:')} {printable(hint, 2000)}")


def report(failure: OmniBaseError) -> None:
    """Prints an error of ours."""
    error(failure.message, failure.hint)


def size(count: float) -> str:
    """Writes a number of bytes, exactly if that is short, e.g. ``64 MiB`` or ``50 MB``."""
    number = int(count)
    if number >= 1 << 40:
        return f"{number / (1 << 40):.3g} TiB"
    for unit, factor in (
        ("GiB", 1 << 30), ("GB", 10**9), ("MiB", 1 << 20), ("MB", 10**6), ("KiB", 1 << 10),
        ("KB", 1000),
    ):  # fmt: skip
        if number % factor == 0 and 0 < number // factor < 10_000:
            return f"{number // factor} {unit}"
    if number >= 1 << 30:
        return f"{number / (1 << 30):.1f} GiB"
    if number >= 1 << 20:
        return f"{number / (1 << 20):.1f} MiB"
    return f"{number / 1024:.1f} KiB" if number >= 1024 else f"{number} bytes"
