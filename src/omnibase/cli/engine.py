"""What `run` and `learn` share: a run with events, live output, and a word while it waits."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnibase.cli import console, exits
from omnibase.errors import ConfigurationError, OmniBaseError, SandboxError

if TYPE_CHECKING:
    from omnibase.cli.options import Inputs
    from omnibase.cli.outputs import Target
    from omnibase.cli.report import Asked
    from omnibase.core.context import ExecutionContext
    from omnibase.core.events import EventBus
    from omnibase.core.sandbox.result import RunResult
    from omnibase.packages import PackageLayer
    from omnibase.pooling import RemotePool

__all__ = [
    "Outcome",
    "audit_directory",
    "await_image",
    "events_to",
    "install",
    "perform",
    "pool",
    "tell",
    "with_packages",
]

_PATIENCE_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended: a result, an error, or an error with a result.

    Attributes:
        result: What came out, if the script had started.
        error: What `omnibase.run` raised.
    """

    result: RunResult | None = None
    error: OmniBaseError | None = None

    @property
    def code(self) -> int:
        """The exit code."""
        if self.error is not None:
            return exits.for_error(self.error)
        return exits.FAILED if self.result is None else self.result.exit_code

    @property
    def plain(self) -> bool:
        """Whether there is nothing to add to the script's output."""
        result = self.result
        if self.error is not None or result is None:
            return False
        found = (result.violations, result.limits, result.truncated, result.trace_dropped)
        left = (result.artifacts, result.artifacts.left_out, result.proposed, result.network_limits)
        return not any((*found, *left, result.denied, result.exit_code and result.unreached))

    def to_dict(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        result = {} if self.result is None else self.result.to_dict()
        return {**result, "error": None if self.error is None else self.error.to_dict()}


def perform(run: Callable[..., RunResult], *, live: bool, bus: EventBus | None) -> Outcome:
    """Runs a script once; whatever OmniBase raises is part of the outcome.

    Args:
        run: `omnibase.run` or its like, all said but ``on_output`` and ``bus``.
        live: Pass the script's output on as it comes.
        bus: Where events go.

    Raises:
        Closed, Unwritable: The output could not be passed on.
    """
    from omnibase.cli.live import Live

    await_image()
    output = Live() if live else None
    try:
        outcome = Outcome(result=run(on_output=output, bus=bus))
    except OmniBaseError as error:
        outcome = Outcome(result=getattr(error, "result", None), error=error)
    if output is not None:
        try:
            output.close()
        except (console.Closed, console.Unwritable):
            if outcome.error is None:  # else that is what there is to say
                raise
    return outcome


def pool() -> RemotePool:
    """Returns the daemon's pool; it is asked when there is something to run."""
    from omnibase.pooling import RemotePool

    return RemotePool()


def with_packages(run: Callable[..., RunResult], inputs: Inputs) -> Callable[..., RunResult]:
    """Returns the same run, preceded by its packages, with a word on how far they are."""
    if inputs.packages is None:
        return run

    def both(**more: Any) -> RunResult:
        layer = install(inputs.packages, bus=more.get("bus"), require_hashes=inputs.require_hashes)
        return run(**more, packages=layer)

    return both


def install(packages: Any, **options: Any) -> PackageLayer:
    """Installs packages; whoever waits at a terminal is told how far it is."""
    from omnibase.packages import install_packages

    told = False

    def show(text: str) -> None:
        nonlocal told
        told = True
        line = console.colour("dim", f"omnibase: {console.printable(text, 100)} …")
        with contextlib.suppress(console.Closed, console.Unwritable):
            console.write(2, b"\r\x1b[K" + line.encode())

    try:
        return install_packages(packages, progress=show if os.isatty(2) else None, **options)
    finally:
        if told:
            with contextlib.suppress(console.Closed, console.Unwritable):
                console.write(2, b"\r\x1b[K")


def tell(
    outcome: Outcome,
    context: ExecutionContext,
    *,
    json: bool,
    target: Target,
    asked: Asked | None = None,
) -> None:
    """Prints what there is to say after a run; nothing, if all went well.

    Args:
        outcome: How it ended.
        context: Its quotas.
        json: Print the outcome as one JSON object.
        target: Where its artifacts are to be written besides.
        asked: The component that ran, if one did.

    Raises:
        ArtifactError, ConfigurationError: They could not be written there.
    """
    if not json and outcome.plain:
        return
    from omnibase.cli import report

    if json:
        report.print_json(outcome.to_dict())
    report.summarise(outcome, context, brief=json, asked=asked)
    if outcome.result is not None:
        target.write(outcome.result.artifacts)


@contextlib.contextmanager
def events_to(options: Any) -> Iterator[EventBus]:
    """Opens a bus to the audit log and to a file, and makes sure that all got there.

    Args:
        options: What the parser read: ``--audit`` and ``--events``.

    Raises:
        ConfigurationError: One of them cannot be opened.
        SandboxError: Events were lost; the record is not whole.
    """
    from omnibase.core.audit import places
    from omnibase.core.events import EventBus

    bus = EventBus(traceparent=os.environ.get("TRACEPARENT"))
    told: list[Callable[[], None]] = []
    try:
        if options.events is not None:
            _subscribe_file(bus, options.events)
        directory = audit_directory(getattr(options, "audit", None))
        if directory is None:
            places.decline(bus)
        else:
            places.attach(bus, directory)
        told += [_telemetry(bus), _publishing(bus)]
        yield bus
    finally:
        bus.close()
        for tell in told:
            tell()
    for failure in bus.failures:
        if failure.sink in ("JsonlSink", "AuditLog"):
            where = options.events if failure.sink == "JsonlSink" else directory
            what = f"{failure.lost} events could not be written to"
            if not failure.lost:
                what = "the disk may not have what was written to"
            raise SandboxError(
                f"{what} `{where}`: {failure.error}",
                hint="the record of this run is not whole; free disk space and run it again",
            )


def _telemetry(bus: EventBus) -> Callable[[], None]:
    """Subscribes what the environment asks for; most runs load none of it."""
    if not any(name.startswith(("OTEL_", "OMNIBASE_LOG")) for name in os.environ):
        return lambda: None
    from omnibase.cli.telemetry import subscribe

    return subscribe(bus)


def _publishing(bus: EventBus) -> Callable[[], None]:
    """Publishes to NATS, if the environment names a server."""
    if not os.environ.get("OMNIBASE_NATS"):
        return lambda: None
    from omnibase.cli.audit_outbox import subscribe

    return subscribe(bus)


def _subscribe_file(bus: EventBus, path: str) -> None:
    from omnibase.core.events import JsonlSink

    try:
        bus.subscribe(JsonlSink(path))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"`--events {path}` cannot be written: {getattr(error, 'strerror', error)}",
            hint="name a regular file that is yours; events are appended to it",
        ) from None


def audit_directory(named: str | None) -> Path | None:
    """Returns the audit log's directory: as named, as configured, or the state directory's.

    Args:
        named: ``--audit``.

    Returns:
        ``None`` if it is to be ``off``.
    """
    from omnibase.core.audit import places

    word = named or os.environ.get("OMNIBASE_AUDIT")
    if word == places.OFF:
        return None
    if word:
        return Path(os.path.abspath(word))
    from omnibase.core.sandbox.state import state_dir

    return state_dir() / "audit"


def await_image() -> None:
    """Builds the image, if it is not there yet, with a word to whoever waits at a terminal."""
    if not os.isatty(2) or os.geteuid() != 0:
        return
    from omnibase.core.sandbox import image, state

    told = threading.Event()

    def tell() -> None:
        told.set()
        text = "omnibase: building the sandbox image, once for this Python …"
        with contextlib.suppress(console.Closed, console.Unwritable):
            console.write(2, console.colour("dim", text).encode())

    timer = threading.Timer(_PATIENCE_SECONDS, tell)
    timer.daemon = True
    timer.start()
    try:
        image.ensure_image(state.state_dir())
    finally:
        timer.cancel()
        timer.join()
        if told.is_set():
            with contextlib.suppress(console.Closed, console.Unwritable):
                console.write(2, b"\r\x1b[K")
