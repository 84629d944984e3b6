"""Where commands are in the guest, and what was brought in. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["BIN", "CACHE", "DIRECTORY", "LIB", "LOADER", "Command", "CommandLayer", "is_name"]

DIRECTORY: Final = "/commands"
"""The one place in the guest that is mounted without ``noexec``; it is read-only."""

BIN: Final = f"{DIRECTORY}/bin"
LIB: Final = f"{DIRECTORY}/lib"
# Not longer than the paths that they replace in programs and in the loader.
LOADER: Final = f"{DIRECTORY}/loader"
CACHE: Final = f"{DIRECTORY}/cache"

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}")


def is_name(text: str) -> bool:
    """Says whether a text can be a command's name."""
    return _NAME.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program of the host that was brought in.

    Attributes:
        name: As it was granted, and as the guest's ``PATH`` finds it.
        path: The file on the host, links followed.
        sha256: Of that file.
        places: Paths at which the host has it; the guest has it there as well.
    """

    name: str
    path: str
    sha256: str
    places: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLayer:
    """Commands with their libraries, in one directory of the host.

    Attributes:
        path: The directory, which the guest has as `DIRECTORY`.
        digest: SHA-256 of its manifest (path, mode and content of every file).
        commands: Sorted by name.
    """

    path: str
    digest: str
    commands: tuple[Command, ...]
