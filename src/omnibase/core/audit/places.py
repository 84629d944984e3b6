"""Where audit logs are, so that no grant reaches into one."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["OFF", "configured", "reserve", "reserved"]

OFF = "off"

_reserved: set[str] = set()


def reserve(directory: str) -> None:
    """Keeps a directory out of reach of every run of this process."""
    _reserved.add(os.path.realpath(directory))


def reserved() -> tuple[str, ...]:
    """Returns the directories of logs that no grant may reach into."""
    named = configured()
    found = set(_reserved)
    if named is not None:
        found.add(os.path.realpath(named))
    return tuple(sorted(found))


def configured() -> Path | None:
    """Returns the directory that ``OMNIBASE_AUDIT`` names; ``None`` without, or for ``off``."""
    named = os.environ.get("OMNIBASE_AUDIT", "")
    return None if named in ("", OFF) else Path(os.path.abspath(named))
