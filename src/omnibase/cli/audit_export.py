"""``omnibase audit export``."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from omnibase.cli import console, exits
from omnibase.cli.audit import add_log_option, log_directory
from omnibase.cli.audit_view import moment, read_events
from omnibase.errors import ConfigurationError

if TYPE_CHECKING:
    from omnibase.cli.commands import Invocation, Parser

__all__ = ["add_arguments", "execute"]

_COLUMNS: Final = ("time", "runid", "sequence", "eventname", "type", "componentid", "subject",
                   "policydigest", "id", "source", "data")  # fmt: skip
_FORMATS: Final = ("ocsf", "csv", "jsonl", "parquet")
_EPILOG: Final = """\
examples:
  omnibase audit export --format ocsf --since 24h | your-collector
  omnibase audit export --format csv > events.csv
  omnibase audit export --format parquet --output events.parquet
  omnibase audit export --format jsonl --output audit.jsonl
  omnibase policy diff report new.cedar.json --replay audit.jsonl\
"""


def add_arguments(parser: Parser, _name: str) -> None:
    """Declares the flags."""
    from omnibase.cli.commands import Once

    parser.add_argument(
        "--format", action=Once, required=True, metavar="|".join(_FORMATS),
        help="OCSF 1.3 (one JSON object on each line), CSV with a header, the events as "
        "`--events` writes them, or Parquet with typed columns",
    )  # fmt: skip
    parser.add_argument(
        "--output", action=Once, metavar="FILE",
        help="write there instead of standard output; it is there once it is whole",
    )  # fmt: skip
    for flag in ("--since", "--until"):
        parser.add_argument(
            flag, action=Once, metavar="TIME", help="RFC 3339, or an age such as 24h or 7d"
        )
    add_log_option(parser)
    parser.epilog = _EPILOG


def execute(invocation: Invocation) -> int:
    """Writes the events, and returns the exit code."""
    options = invocation.options
    if options.format not in _FORMATS:
        raise ConfigurationError(
            f"`--format {options.format[:80]}` is none",
            hint=f"choose {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}",
        )
    if options.format == "parquet" and not options.output:
        raise ConfigurationError(
            "`--format parquet` needs a file", hint="name one: `--output events.parquet`"
        )
    since, until = moment("--since", options.since), moment("--until", options.until)
    events = _events(log_directory(options), since, until)
    if options.output == "":
        raise ConfigurationError("`--output` is empty", hint="name a file")
    if options.output is None:
        _write(options.format, events, console.out)
    else:
        with _whole(options.output) as file:
            if options.format == "parquet":
                _write_parquet(events, file)
            else:
                _write(options.format, events, lambda text: _put(file, text))
    return exits.OK


def _write(form: str, events: Iterator[dict[str, Any]], out: Callable[[str], object]) -> None:
    writer = {"ocsf": _ocsf, "csv": _csv, "jsonl": _json}[form]
    if form == "csv":
        out(_row(_COLUMNS))
    for event in events:
        out(writer(event))


def _write_parquet(events: Iterator[dict[str, Any]], file: IO[bytes]) -> None:
    from omnibase.core.audit.parquet import ParquetFile

    try:
        parquet = ParquetFile(file)
    except ImportError as error:
        raise ConfigurationError(
            f"`--format parquet` needs a library that is not installed: {error}",
            hint="`pip install 'omnibase[parquet]'`",
        ) from None
    for event in events:
        parquet.take(event)
    parquet.close()


def _put(file: IO[bytes], text: str) -> None:
    file.write(text.encode("utf-8", "backslashreplace"))


@contextlib.contextmanager
def _whole(path: str) -> Iterator[IO[bytes]]:
    """Opens a file that takes its name once it is whole and on the disk, or goes.

    Raises:
        ConfigurationError: It cannot be written.
    """
    target = os.path.abspath(path)
    draft = f"{target}.{os.getpid()}.part"
    try:
        if os.path.isdir(target):
            raise IsADirectoryError(errno.EISDIR, "it is a directory")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(draft, flags, 0o600)
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from None
    try:
        with open(fd, "wb") as file:
            try:
                yield file
                file.flush()
                os.fsync(fd)
                os.replace(draft, target)
            except OSError as error:
                raise _unwritable(path, error) from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)


def _unwritable(path: str, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"`--output {path}` cannot be written: {getattr(error, 'strerror', None) or error}",
        hint="name a file in a directory of yours, with room for it",
    )


def _events(directory: Path, since: int | None, until: int | None) -> Iterator[dict[str, Any]]:
    """Yields the log's events of a time, as they were when it is first asked.

    Raises:
        ConfigurationError: The log cannot be read.
    """
    from omnibase.core.audit.filling import microseconds
    from omnibase.core.audit.verification import snapshot

    try:
        for segment, size in snapshot(directory):
            for end, event in read_events(directory, segment.number, 0):
                if end > size:
                    break
                if event is None:
                    continue
                when = microseconds(event.get("time"))
                if (since is None or when >= since) and (until is None or when < until):
                    yield event
    except OSError as error:
        raise ConfigurationError(
            f"the audit log `{directory}` cannot be read: {error.strerror or error}",
            hint="check who owns it, and that it is a directory",
        ) from None


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
