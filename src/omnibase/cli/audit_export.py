"""``omnibase audit export``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from omnibase.cli import console, exits
from omnibase.cli.audit import add_log_option, log_directory
from omnibase.cli.audit_view import moment, read_events
from omnibase.errors import ConfigurationError

if TYPE_CHECKING:
    from omnibase.cli.commands import Invocation, Parser

__all__ = ["add_arguments", "execute"]

_COLUMNS: Final = ("time", "runid", "sequence", "eventname", "type", "componentid", "subject",
                   "policydigest", "id", "source", "data")  # fmt: skip
_EPILOG: Final = """\
examples:
  omnibase audit export --format ocsf --since 24h | your-collector
  omnibase audit export --format csv > events.csv
  omnibase audit export --format jsonl > audit.jsonl
  omnibase policy diff report new.cedar.json --replay audit.jsonl\
"""


def add_arguments(parser: Parser, _name: str) -> None:
    """Declares the flags."""
    from omnibase.cli.commands import Once

    parser.add_argument(
        "--format", action=Once, required=True, metavar="ocsf|csv|jsonl",
        help="OCSF 1.3 (one JSON object on each line), CSV with a header, or the events as "
        "`--events` writes them",
    )  # fmt: skip
    for flag in ("--since", "--until"):
        parser.add_argument(
            flag, action=Once, metavar="TIME", help="RFC 3339, or an age such as 24h or 7d"
        )
    add_log_option(parser)
    parser.epilog = _EPILOG


def execute(invocation: Invocation) -> int:
    """Writes the events to standard output, and returns the exit code."""
    options = invocation.options
    writers: dict[str, Callable[[dict[str, Any]], str]] = {
        "ocsf": _ocsf, "csv": _csv, "jsonl": _json,
    }  # fmt: skip
    writer = writers.get(options.format)
    if writer is None:
        raise ConfigurationError(
            f"`--format {options.format[:80]}` is none", hint="choose ocsf, csv or jsonl"
        )
    since, until = moment("--since", options.since), moment("--until", options.until)
    directory = log_directory(options)
    try:
        if options.format == "csv":
            console.out(_row(_COLUMNS))
        _export(directory, writer, since, until)
    except OSError as error:
        raise ConfigurationError(
            f"the audit log `{directory}` cannot be read: {error.strerror or error}",
            hint="check who owns it, and that it is a directory",
        ) from None
    return exits.OK


def _export(
    directory: Path, writer: Callable[[dict[str, Any]], str], since: int | None, until: int | None
) -> None:
    from omnibase.core.audit.filling import microseconds
    from omnibase.core.audit.verification import snapshot

    for segment, size in snapshot(directory):
        for end, event in read_events(directory, segment.number, 0):
            if end > size:
                break
            if event is None:
                continue
            when = microseconds(event.get("time"))
            if (since is None or when >= since) and (until is None or when < until):
                console.out(writer(event))


def _json(event: dict[str, Any]) -> str:
    return json.dumps(event, ensure_ascii=True, separators=(",", ":")) + "\n"


def _ocsf(event: dict[str, Any]) -> str:
    from omnibase.core.audit.ocsf import to_ocsf

    return _json(to_ocsf(event))


def _csv(event: dict[str, Any]) -> str:
    data = json.dumps(event.get("data"), ensure_ascii=True)
    return _row([*(str(event.get(name) or "") for name in _COLUMNS[:-1]), data])


def _row(cells: Any) -> str:
    out = io.StringIO()
    # A spreadsheet would take such a beginning for a formula, and the code chose the text.
    safe = (f"'{cell}" if cell.startswith(("=", "+", "-", "@")) else cell for cell in cells)
    csv.writer(out, lineterminator="\n").writerow(console.printable(one, 100_000) for one in safe)
    return out.getvalue()
