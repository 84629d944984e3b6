"""``omnibase audit tail``, ``query``, ``show`` and ``stats``."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from omnibase.cli import console, exits
from omnibase.cli.audit import add_log_option, log_directory
from omnibase.errors import ConfigurationError

if TYPE_CHECKING:
    from omnibase.cli.commands import Invocation, Parser
    from omnibase.core.audit.index import Query

__all__ = ["add_arguments", "execute", "moment", "read_events"]

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_POLL_SECONDS: Final = 0.2
_MAX_RUN: Final = 10_000
_UNENDED: Final = 1000
_QUERY: Final = """\
examples:
  omnibase audit query --decision denied --since 24h
  omnibase audit query --capability 'FILE_READ:/etc/*' --type SandboxViolation
  omnibase audit query --component 7d2c1b5e-0a4f-4c3e-9f6b-1e8a5d7c2b90 --json\
"""


def add_arguments(parser: Parser, name: str) -> None:
    """Declares the flags of one command."""
    from omnibase.cli.commands import Once

    command = name.split(" ")[1]
    if command == "show":
        parser.add_argument("run", metavar="RUN", help="a run's id, or its beginning")
    if command == "tail":
        parser.add_argument("--follow", action="store_true", help="print those to come, too")
        parser.add_argument(
            "--limit", action=Once, default="20", metavar="N", help="how many (default: 20)"
        )
    if command == "query":
        _add_query_options(parser)
        parser.add_argument(
            "--limit", action=Once, default="100", metavar="N",
            help="how many at most, the latest (default: 100, at most 10000)",
        )  # fmt: skip
        parser.epilog = _QUERY
    add_log_option(parser)
    parser.add_argument(
        "--json", action="store_true",
        help="one event on each line" if command in ("tail", "query") else "one JSON object",
    )  # fmt: skip


def _add_query_options(parser: Parser) -> None:
    """Adds what `_query_of` reads."""
    from omnibase.cli.commands import Once

    for flag, metavar, text in (
        ("--component", "UUID", "events of a component"),
        ("--type", "NAME", "events of a type, e.g. SandboxViolation"),
        ("--capability", "TYPE:RESOURCE", "events about a capability; a * at its end: any that "
         "begins so"),
        ("--decision", "granted|denied|violation", "what was decided, or tried beyond that"),
        ("--run", "RUN", "events of a run; a * at its end: any that begins so"),
        ("--since", "TIME", "from then on: RFC 3339, or an age such as 90s, 15m, 24h, 7d"),
        ("--until", "TIME", "before then, likewise"),
    ):  # fmt: skip
        parser.add_argument(flag, action=Once, metavar=metavar, help=text)


def _query_of(options: Any, limit: int) -> Query:
    """Reads the options of a query.

    Raises:
        ConfigurationError: One of them is wrong.
    """
    from omnibase.core.audit.index import DECISIONS, Query

    if options.decision not in (None, *DECISIONS):
        raise ConfigurationError(
            f"`--decision {options.decision[:80]}` is none", hint="choose " + ", ".join(DECISIONS)
        )
    return Query(
        component=options.component,
        type=options.type,
        capability=options.capability,
        since=moment("--since", options.since),
        until=moment("--until", options.until),
        decision=options.decision,
        run=options.run,
        limit=limit,
    )


def execute(invocation: Invocation) -> int:
    """Runs one command and returns its exit code."""
    options = invocation.options
    directory = log_directory(options)
    command = {"tail": _tail, "query": _query, "show": _show, "stats": _stats}
    try:
        return command[invocation.name.split(" ")[1]](options, directory)
    except OSError as error:
        raise ConfigurationError(
            f"the audit log `{directory}` cannot be read: {error.strerror or error}",
            hint="check who owns it, and that it is a directory",
        ) from None


def _query(options: Any, directory: Path) -> int:
    from omnibase.core.audit.index import MAX_LIMIT, Index

    query = _query_of(options, _limit(options.limit, MAX_LIMIT))
    with Index(directory) as index:
        for found in index.find(query):
            _print(found.event, options.json)
    return exits.OK


def _show(options: Any, directory: Path) -> int:
    from omnibase.core.audit.index import Index, Query
    from omnibase.core.audit.unended import is_unended

    with Index(directory) as index:
        runs = index.names_from(options.run, 2) if options.run else []
        if len(runs) != 1:
            what = "is the beginning of more than one run" if runs else "is no run of this log"
            raise ConfigurationError(
                f"`{options.run[:80]}` {what}", hint="find runs with `omnibase audit query`"
            )
        found = index.find(Query(run=runs[0], limit=_MAX_RUN))
    events = sorted((one.event for one in found), key=_order)
    if options.json:
        from omnibase.cli.report import print_json

        print_json({"run": runs[0], "unended": is_unended(events), "events": events})
        return exits.OK
    first = _seconds(events[0])
    subject = console.printable(str(events[0].get("subject") or ""), 200)
    console.out(f"{console.colour('bold', 'run', 1)} {console.printable(runs[0])}  {subject}\n")
    console.out(f"{console.printable(str(events[0].get('time')))}\n")
    for event in events:
        console.out(f"  {_seconds(event) - first:+9.3f} s  {_line(event)}\n")
    if is_unended(events):
        console.out("no end is on record: it is still to come, for `omnibase doctor --clean` "
                    "to tell, or lost\n")  # fmt: skip
    return exits.OK


def _stats(options: Any, directory: Path) -> int:
    from omnibase.core.audit.index import Index

    with Index(directory) as index:
        stats, unended = index.stats(), index.unended(_UNENDED)
    for name in ("first", "last"):
        at = stats.pop(f"{name}_microseconds")
        stats[name] = None if at is None else (
            datetime.fromtimestamp(at / 1e6, UTC).isoformat().replace("+00:00", "Z")
        )  # fmt: skip
    if options.json:
        from omnibase.cli.report import print_json

        print_json({**stats, "unended_runs": unended})
        return exits.OK
    console.out(
        f"{stats['events']} events of {stats['runs']} runs and {stats['components']} components, "
        f"{stats['segments']} segments, {console.size(stats['bytes'])}\n"
        f"from {stats['first']} to {stats['last']}\n"
    )
    for title in ("types", "decisions"):
        for name, count in stats[title].items():
            console.out(f"  {count:>10}  {console.printable(name, 100)}\n")
    if unended:
        from omnibase.cli.audit_check import unended_text

        console.out(f"{unended_text(stats['unended'], unended[:5])}\n")
    return exits.OK


def _tail(options: Any, directory: Path) -> int:
    limit = _limit(options.limit, 10_000)
    latest, place = _latest(directory, limit)
    for event in latest:
        _print(event, options.json)
    while options.follow:
        time.sleep(_POLL_SECONDS)
        for event in place.more():
            _print(event, options.json)
    return exits.OK


class _Place:
    """Where the reading of a log has come to."""

    def __init__(self, directory: Path, number: int, offset: int) -> None:
        self._directory, self._number, self._offset = directory, number, offset

    def more(self) -> Iterator[dict[str, Any]]:
        """Yields the events that have come since."""
        from omnibase.core.audit.segments import segment_name

        while True:
            following = os.path.exists(self._directory / segment_name(self._number + 1))
            for end, event in read_events(self._directory, self._number, self._offset):
                self._offset = end
                if event is not None:
                    yield event
            if not following:
                return
            self._number, self._offset = self._number + 1, 0


def _latest(directory: Path, limit: int) -> tuple[list[dict[str, Any]], _Place]:
    from omnibase.core.audit.segments import latest_records, open_segment
    from omnibase.core.audit.verification import snapshot

    found = snapshot(directory)
    latest: list[dict[str, Any]] = []
    for segment, size in reversed(found):
        fd = open_segment(segment.path)
        try:
            events = (each for each in latest_records(fd, size) if each.kind == "event")
            latest += [each.fields() for each in islice(events, limit - len(latest))]
        finally:
            os.close(fd)
        if len(latest) >= limit:
            break
    return latest[::-1], _Place(directory, found[-1][0].number, found[-1][1])


def read_events(
    directory: Path, number: int, start: int
) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Yields the events of a segment, each with where its line ends; ``None``: something else."""
    from omnibase.core.audit.chain import parse
    from omnibase.core.audit.segments import open_segment, segment_name
    from omnibase.core.audit.verification import lines

    fd = open_segment(directory / segment_name(number))
    try:
        for offset, line in lines(fd, start, os.fstat(fd).st_size):
            if not line.endswith(b"\n"):
                return
            record = parse(line.removesuffix(b"\n"))
            is_event = record is not None and record.kind == "event"
            yield offset + len(line), record.fields() if is_event and record else None
    finally:
        os.close(fd)


def _print(event: dict[str, Any], as_json: bool) -> None:
    if as_json:
        console.out(json.dumps(event, ensure_ascii=True) + "\n")
    else:
        when = console.printable(str(event.get("time")), 40)
        run = console.printable(str(event.get("runid")), 12)
        console.out(f"{when}  {run}  {_line(event)}\n")


def _line(event: dict[str, Any]) -> str:
    """Returns what happened, harmless to a terminal."""
    data = event.get("data")
    data = data if isinstance(data, dict) else {}
    said = ", ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in data.items()
        if value not in (None, [], {}, "") and not name.endswith(("sha256", "_seen"))
    )
    name = console.printable(str(event.get("eventname")), 40)
    return f"{name:<18} {console.printable(said)}".rstrip()


def _order(event: dict[str, Any]) -> tuple[str, str]:
    return str(event.get("time")), str(event.get("sequence"))


def _seconds(event: dict[str, Any]) -> float:
    try:
        return datetime.fromisoformat(str(event.get("time"))).timestamp()
    except ValueError:
        return 0.0


def _limit(text: str, highest: int) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,6}", text) or int(text) > highest:
        raise ConfigurationError(f"`--limit {text[:80]}` is no number from 1 to {highest}",
                                 hint="e.g. `--limit 50`")  # fmt: skip
    return int(text)


def moment(flag: str, text: str | None) -> int | None:
    """Reads a time or an age; returns microseconds since 1970.

    Raises:
        ConfigurationError: It is neither.
    """
    if text is None:
        return None
    age = re.fullmatch(r"([0-9]{1,6})([smhdw])", text)
    if age:
        return round((time.time() - int(age[1]) * _UNITS[age[2]]) * 1e6)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"`{flag} {text[:80]}` is no time", hint="e.g. `2026-11-25T09:30:00Z`, or `24h`"
        ) from None
    return round((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1e6)
