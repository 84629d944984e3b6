"""Which runs have a start on record and no end. No I/O."""

from __future__ import annotations

from typing import Any, Final

from omnibase.core.audit.chain import parse

__all__ = ["END", "STARTS", "Unended", "is_unended"]

STARTS: Final = ("SandboxStart", "UnsandboxedStart")
END: Final = "SandboxExit"
# Whatever is none of them is not parsed.
_MAYBE: Final = tuple(f'"eventname":"{name}"'.encode() for name in (*STARTS, END))


class Unended:
    """Follows the lines of a log; knows no more runs than are open at one time."""

    def __init__(self) -> None:
        self._runs: dict[str, None] = {}

    @property
    def runs(self) -> tuple[str, ...]:
        """Those that are open, by their start."""
        return tuple(self._runs)

    def feed(self, line: bytes) -> None:
        """Takes the next line of the log."""
        if not any(text in line for text in _MAYBE):
            return
        record = parse(line.removesuffix(b"\n"))
        event = record.fields() if record is not None and record.kind == "event" else {}
        run = str(event.get("runid"))
        if event.get("eventname") in STARTS:
            self._runs.setdefault(run)
        elif event.get("eventname") == END:
            self._runs.pop(run, None)


def is_unended(events: list[dict[str, Any]]) -> bool:
    """Says whether the events of one run have a start and no end."""
    names = {event.get("eventname") for event in events}
    return not names.isdisjoint(STARTS) and END not in names
