"""Where audit logs are: what the environment names, and what no grant may reach."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from omnibase.errors import ConfigurationError

if TYPE_CHECKING:
    from omnibase.core.audit.open_runs import OpenRun
    from omnibase.core.events import Emitter, EventBus

__all__ = ["OFF", "attach", "configured", "decline", "open_run", "reserve", "reserved"]

OFF: Final = "off"

_reserved: set[str] = set()
_attached: WeakKeyDictionary[EventBus, set[Path]] = WeakKeyDictionary()
_lock = threading.Lock()
# A child forked while another thread holds the lock would wait for it for ever.
os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]


def reserve(directory: str) -> None:
    """Keeps a directory out of reach of every run of this process."""
    _reserved.add(os.path.realpath(directory))


def reserved() -> tuple[str, ...]:
    """Returns the directories of logs and outboxes that no grant may reach into."""
    named = [configured(), os.environ.get("OMNIBASE_NATS_OUTBOX")]
    return tuple(sorted(_reserved | {os.path.realpath(path) for path in named if path}))


def configured() -> Path | None:
    """Returns the directory that ``OMNIBASE_AUDIT`` names; ``None`` without, or for ``off``."""
    named = os.environ.get("OMNIBASE_AUDIT", "")
    return None if named in ("", OFF) else Path(os.path.abspath(named))


def decline(bus: EventBus) -> None:
    """Says that a bus is to have no log, whatever the environment names."""
    with _lock:
        _attached.setdefault(bus, set())


def attach(bus: EventBus, directory: Path | None = None) -> None:
    """Makes a bus write to an audit log, once; it closes the log when it closes.

    Args:
        bus: Whose events are to be kept.
        directory: The log's; by default the one that ``OMNIBASE_AUDIT`` names, if it
            names one and the bus has no log yet.

    Raises:
        ConfigurationError: The log cannot be opened.
    """
    with _lock:
        present = _attached.get(bus)
        place = directory or (None if present is not None else configured())
        if place is None or place in (present or ()):
            return
        from omnibase.core.audit.log import AuditLog

        try:
            log = AuditLog(place)
        except OSError as error:
            raise ConfigurationError(
                f"the audit log `{place}` cannot be written: {error.strerror or error}",
                hint="name a directory of your own with `--audit DIR` or `OMNIBASE_AUDIT`",
            ) from None
        bus.subscribe(log)
        _attached.setdefault(bus, set()).add(place)


def open_run(directory: Callable[[], Path], bus: EventBus, emitter: Emitter) -> OpenRun | None:
    """Returns what notes that a run has no end yet; ``None`` without a log that has its start.

    Args:
        directory: Says where notes are.
        bus: Where the run's events go.
        emitter: Of the run.
    """
    if "omnibase.core.audit.log" not in sys.modules:
        return None
    from omnibase.core.audit.open_runs import OpenRun

    note = OpenRun(directory(), bus, emitter)
    return note if note.logs else None
