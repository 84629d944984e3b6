"""``omnibase audit outbox``: what waits to be published, and a way to publish it now."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from omnibase.cli import console, exits
from omnibase.errors import ConfigurationError

if TYPE_CHECKING:
    from omnibase.cli.commands import Invocation, Parser
    from omnibase.core.events import EventBus
    from omnibase.core.events.nats_settings import NatsSettings
    from omnibase.core.events.outbox import Survey

__all__ = ["add_arguments", "execute", "subscribe"]

_SECONDS: Final = 60.0
_EPILOG: Final = """\
Events that go to NATS (OMNIBASE_NATS) wait in the outbox until the server has
acknowledged them. Each run delivers what earlier ones had to leave; --deliver does
that without a run, and ends at the first attempt that fails: then the exit code is 1.
Events that a process has in hand are left to it.

examples:
  omnibase audit outbox
  OMNIBASE_NATS=nats://127.0.0.1:4222 omnibase audit outbox --deliver\
"""


def add_arguments(parser: Parser, _name: str) -> None:
    """Declares the flags."""
    from omnibase.cli.commands import Once

    parser.add_argument(
        "--outbox", action=Once, metavar="DIR",
        help="its directory (default: $OMNIBASE_NATS_OUTBOX, else `outbox` in the state directory)",
    )  # fmt: skip
    parser.add_argument(
        "--deliver", action="store_true", help="publish what no process has, to $OMNIBASE_NATS"
    )
    parser.add_argument(
        "--timeout", action=Once, metavar="SECONDS",
        help=f"with --deliver: the longest wait (default: {_SECONDS:g})",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object, nothing else")
    parser.epilog = _EPILOG


def execute(invocation: Invocation) -> int:
    """Shows the outbox, and delivers what is in it if that is asked for.

    Raises:
        ConfigurationError: A flag or a variable is wrong, or the outbox cannot be used.
    """
    options = invocation.options
    directory = _directory(options)
    seconds = _seconds(options)
    delivered, problem = None, None
    if options.deliver:
        delivered, problem = _deliver(directory, seconds)
    found = _survey(directory)
    if options.json:
        from omnibase.cli.report import print_json

        print_json({
            "outbox": str(directory), "events": found.events, "bytes": found.bytes,
            "files": found.spools, "in_use": found.held, "oldest": found.oldest,
            "lost": found.lost, "delivered": delivered, "problem": problem,
        })  # fmt: skip
    else:
        _show(directory, found, delivered, problem)
    return exits.OK if problem is None else exits.UNFIT


def subscribe(bus: EventBus) -> Callable[[], None]:
    """Publishes a command's events; what it returns tells, once the bus is closed, what waits.

    Raises:
        ConfigurationError: See `omnibase.publishing.attach`.
    """
    from omnibase import publishing

    sink = publishing.attach(bus)
    if sink is None:
        return lambda: None

    def tell() -> None:
        prefix = console.colour("yellow", "omnibase: warning:")
        lost = sum(each.lost for each in bus.failures if each.sink == type(sink).__name__)
        if lost:
            text = f"{_events(lost)} could not be kept for NATS: the outbox is full, or its disk"
            console.note(f"{prefix} {text}; the stream will be told how many")
        if sink.pending:
            why = console.printable(sink.problem or "the server needs longer", 300)
            console.note(
                f"{prefix} {_events(sink.pending)} for NATS wait in the outbox ({why}); the next "
                "run delivers them, or `omnibase audit outbox --deliver`"
            )

    return tell


def _directory(options: Any) -> Path:
    if options.outbox == "":
        raise ConfigurationError("`--outbox` is empty", hint="name a directory")
    if options.outbox is not None:
        return Path(os.path.abspath(options.outbox))
    from omnibase.publishing import outbox_directory

    return outbox_directory()


def _seconds(options: Any) -> float:
    if options.timeout is None:
        return _SECONDS
    try:
        seconds = float(options.timeout)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86400 or not options.deliver:
        raise ConfigurationError(
            f"`--timeout {options.timeout[:80]}` is no wait for `--deliver`",
            hint="give `--deliver`, and a number of seconds from 0 to 86400",
        )
    return seconds


def _settings() -> NatsSettings:
    from omnibase.core.events.nats_settings import NatsSettings

    settings = NatsSettings.from_environment(os.environ)
    if settings is None:
        raise ConfigurationError(
            "no NATS server is named",
            hint="set `OMNIBASE_NATS`, e.g. to `nats://127.0.0.1:4222`",
        )
    return settings


def _deliver(directory: Path, seconds: float) -> tuple[int, str | None]:
    from omnibase.publishing import sink_of

    settings = _settings()
    _survey(directory)
    sink = sink_of(settings, directory, patience_seconds=seconds)
    try:
        sink.take_over()
        sink.flush(seconds)
    finally:
        sink.close()
    if not sink.pending:
        return sink.delivered, None
    return sink.delivered, sink.problem or "the time was too short"


def _survey(directory: Path) -> Survey:
    from omnibase.core.events.outbox import Outbox, Survey

    if not directory.exists():  # looking makes none
        return Survey(0, 0, 0, 0, None, 0)
    try:
        outbox = Outbox(directory, max_bytes=1, fsync="never")
    except OSError as error:
        raise ConfigurationError(
            f"the outbox `{directory}` cannot be used: {error.strerror or error}",
            hint="check who owns it, and that it is a directory",
        ) from None
    try:
        return outbox.survey()
    finally:
        outbox.close()


def _show(directory: Path, found: Survey, delivered: int | None, problem: str | None) -> None:
    if delivered is not None:
        console.out(f"{_events(delivered)} delivered\n")
    if problem is not None:
        console.out(f"{console.colour('red', 'failed', 1)}  {console.printable(problem, 500)}\n")
    oldest = "" if found.oldest is None else f", the oldest of {console.printable(found.oldest)}"
    console.out(
        f"{_events(found.events)} ({console.size(found.bytes)}) waiting in "
        f"{console.printable(str(directory))}{oldest}\n"
    )
    if found.held:
        console.out(f"{found.held} of {found.spools} files are in use by a process that delivers\n")
    if found.lost:
        console.out(f"{_events(found.lost)} could not be kept; the stream will be told\n")


def _events(count: int) -> str:
    return "1 event" if count == 1 else f"{count} events"
