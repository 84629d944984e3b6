"""What is said after a run: what was denied, what ran out, and what to type about it."""

from __future__ import annotations

import contextlib
import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from omnibase.cli import console
from omnibase.errors import (
    ConfigurationError,
    OmniBaseError,
    ResourceLimitExceeded,
    SandboxTimeout,
    SandboxViolationError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from omnibase.cli.engine import Outcome
    from omnibase.core.context import ExecutionContext
    from omnibase.core.sandbox.monitor.violations import Violation
    from omnibase.core.sandbox.result import RunResult

__all__ = ["Asked", "errors_as_json", "list_denied", "print_json", "summarise", "times"]

_SHOWN: Final = 20
_LIMITS: Final[dict[str, tuple[str, str, str]]] = {
    # kind: (field of the context, how it reads, what to type)
    "memory": ("memory_bytes", "memory", "grant more with `--memory SIZE`"),
    "cpu": ("cpu_seconds", "CPU time", "allow more with `--cpu-time SECONDS`"),
    "pids": ("pids", "processes", "allow more with `--pids N`"),
    "output": ("output_bytes", "output",
               "allow more with `--output SIZE`, or cut it with `--on-output-limit truncate`"),
    "time": ("wall_seconds", "time", "allow more with `--timeout SECONDS`"),
    "disk": ("scratch_bytes", "disk", "allow more with `--scratch SIZE`"),
}  # fmt: skip
_NETWORK_LIMITS: Final[dict[str, tuple[str, str]]] = {
    # kind: (how the figure reads, what to type)
    "egress_connections": (
        " connections at one time", "allow each grant more with `--egress-connections N`"
    ),
    "egress_bytes": (
        " in both directions together", "allow each grant more with `--egress-bytes SIZE`"
    ),
    "egress_idle_seconds": (
        " s without a byte", "allow each connection more with `--egress-idle SECONDS`"
    ),
}  # fmt: skip


def print_json(document: dict[str, Any]) -> None:
    """Prints one JSON object; ASCII, so that nothing in it can act on a terminal."""
    console.out(json.dumps(document, indent=2, ensure_ascii=True) + "\n")


@contextlib.contextmanager
def errors_as_json(wanted: bool) -> Iterator[None]:
    """Prints an error as a JSON object before it is raised on.

    What is wrong with the command line is for people alone.
    """
    try:
        yield
    except OmniBaseError as error:
        if wanted and not isinstance(error, ConfigurationError):
            print_json({"error": error.to_dict()})
        raise


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A component as the command line named it, for hints that can be typed.

    Attributes:
        component: As it was typed.
        registry: ``--registry``, if it was given.
        environment: ``--environment``.
    """

    component: str
    registry: str | None
    environment: str

    def command(self, words: str, *more: str) -> str:
        """Returns a command on the component, with the options that were given."""
        parts = ["omnibase", *words.split(" "), self.component, *more]
        if self.registry is not None:
            parts += ["--registry", self.registry]
        if words == "policy explain" and self.environment != "default":
            parts += ["--environment", self.environment]
        return shlex.join(parts)


def summarise(
    outcome: Outcome,
    context: ExecutionContext,
    *,
    brief: bool = False,
    asked: Asked | None = None,
) -> None:
    """Prints what there is to say on standard error; nothing, if all went well.

    Args:
        outcome: How the run ended.
        context: Its quotas.
        brief: The error alone: the rest was printed as JSON.
        asked: The component that ran, if one did.
    """
    error, result = outcome.error, outcome.result
    violations = result.violations if result is not None else ()
    if isinstance(error, SandboxViolationError):
        count = sum(violation.count for violation in violations)
        console.error(f"the script tried what it was not granted, {times(count)}")
    elif isinstance(error, SandboxTimeout):
        hint = _LIMITS["time"][2]
        console.error(f"the run took longer than {context.wall_seconds:g} s", hint)
    elif isinstance(error, ResourceLimitExceeded):
        hint = _LIMITS[error.kind][2]
        if error.kind == "memory" and result is not None and result.layer is not None:
            hint += ", e.g. `--memory 128MiB`: pandas or matplotlib need 80 MB before they work"
        console.error(_limit(error.kind, context, error.details.get("limit")), hint)
    elif asked is not None and error is not None and error.details.get("denied"):
        _denied(error, asked)
        if len(error.details.get("denied", ())) > 1 and not brief:
            list_denied(error.details["denied"])
    elif error is not None:
        console.report(error)
    elif violations and not brief:
        count = sum(violation.count for violation in violations)
        _note(f"the script tried what it was not granted, {times(count)}")
    if brief:
        return
    if violations:
        _list(violations, asked)
    if result is not None and (result.artifacts or result.artifacts.left_out):
        from omnibase.cli import outputs

        outputs.tell(result.artifacts)
    if result is not None and result.proposed:
        from omnibase.cli import outputs

        outputs.tell_proposed(result.proposed)
    if result is not None and result.denied and asked is not None:
        what = ", ".join(result.denied)
        _note(
            f"it ran without what its policy denies: {what}",
            f"see `{asked.command('policy explain', result.denied[0])}`",
        )
    if result is not None:
        _rest(result, context, error)


def _denied(error: OmniBaseError, asked: Asked) -> None:
    first = str(error.details["denied"][0]["capability"])
    hint = f"see `{asked.command('policy explain', first)}`"
    if "--degrade" in (error.hint or ""):
        hint += ", or run it with `--degrade` to go on without it"
    console.error(error.message, hint)


def list_denied(denied: Iterable[Mapping[str, Any]]) -> None:
    """Prints what a policy denies, as `Denied.to_dict` gives it."""
    for one in denied:
        reason = console.printable(str(one["reason"]), 1000)
        name = console.printable(str(one["capability"]), 1000)
        console.note(f"  {console.colour('red', 'denied')}  {name}: {reason}")


def _rest(result: RunResult, context: ExecutionContext, error: object) -> None:
    for one in result.unreached[:_SHOWN] if result.exit_code or error else ():
        _note(f"{one.target} is granted, but was not reached, {times(one.count)}: {one.reason}")
    for reached in result.network_limits[:_SHOWN]:
        name, hint = _NETWORK_LIMITS[reached.limit]
        shown = f"{getattr(context, reached.limit):g}"
        if reached.limit == "egress_bytes":
            shown = console.size(context.egress_bytes)
        _note(f"{reached.capability} reached its limit of {shown}{name}", hint)
    told = getattr(error, "kind", "time" if isinstance(error, SandboxTimeout) else None)
    for kind in result.limits:
        if kind != told and not (kind == "output" and result.truncated):
            _note(_limit(kind, context, None), _LIMITS[kind][2])
    if result.truncated and told != "output":
        shown = console.size(context.output_bytes)
        _note(f"the output was cut at {shown}", "allow more with `--output SIZE`")
    if result.trace_dropped:
        _note(
            f"{result.trace_dropped} messages of the trace were lost or past what is kept: there "
            "may have been more attempts than are listed"
        )


def _limit(kind: str, context: ExecutionContext, limit: float | None) -> str:
    field, name, _ = _LIMITS[kind]
    if limit is None and kind == "memory":
        return "the run reached its memory limit"
    figure = getattr(context, field) if limit is None else limit
    shown = console.size(figure) if field.endswith("bytes") else f"{figure:g}"
    if field.endswith("seconds"):
        shown += " s"
    return f"the run reached its {name} limit of {shown}"


def _note(text: str, hint: str | None = None) -> None:
    console.note(f"{console.colour('yellow', 'omnibase: note:')} {console.printable(text)}")
    if hint:
        console.note(f"{console.colour('bold', 'hint:')} {console.printable(hint)}")


def _list(violations: Iterable[Violation], asked: Asked | None) -> None:
    from omnibase.cli.enforce import database_copy, enforcement_of, needed, port_unknown
    from omnibase.core.sandbox.commands.finding import outlook

    rows: dict[str, list[Violation]] = {}
    for violation in violations:
        name = violation.capability or f"{violation.operation} ({violation.resource})"
        rows.setdefault(name, []).append(violation)
    shown = list(rows.items())[:_SHOWN]
    width = min(60, max(len(console.printable(name, 200)) for name, _ in shown))
    allow: list[str] = []
    never: dict[str | None, list[str]] = {}
    kept_back: list[str] = []
    absent: list[str] = []
    guessed: list[str] = []
    copies: dict[str, None] = {}
    for name, group in shown:
        text = console.printable(name, 200)
        console.note(f"  {console.colour('red', 'denied')}  {text:<{width}}  {_how(group)}")
        capability = needed(group[0])
        if capability is None:
            continue
        if group[0].reason is not None:
            kept_back.append(str(capability))
        elif capability.type.value == "EXTERNAL_COMMAND" and outlook(capability.resource) is None:
            absent.append(capability.resource)
        elif example := port_unknown(capability):
            guessed.append(example)
        else:
            found = enforcement_of(capability, resolve=False)
            if found.usable:
                allow.append(str(capability))
                if copy := database_copy(capability):
                    copies[copy] = None
            else:
                never.setdefault(found.hint, []).append(str(capability))
    if len(rows) > len(shown):
        console.note(f"  … and {len(rows) - len(shown)} more; `--json` lists all")
    hint = console.colour("bold", "hint:")
    if kept_back and asked is not None:
        command = console.printable(asked.command("policy explain", kept_back[0]), 4000)
        console.note(f"{hint} policy keeps it back: see `{command}`")
    if allow and asked is None:
        words = " ".join(f"--allow {shlex.quote(one)}" for one in allow)
        console.note(f"{hint} what should be allowed, allow: {console.printable(words, 4000)}")
    elif allow and asked is not None:
        flags = (word for one in allow for word in ("--require", one))
        command = console.printable(asked.command("registry update", *flags), 4000)
        console.note(
            f"{hint} what should be allowed, it must require, and its policy permit: `{command}`"
        )
    if copies:
        flag = "--allow" if asked is None else "--require"
        words = console.printable(" ".join(f"{flag} {shlex.quote(one)}" for one in copies), 4000)
        console.note(
            f"{hint} to read an SQLite database, a copy is enough, in place of it: {words}"
        )
    if absent:
        names = console.printable(", ".join(absent), 1000)
        console.note(f"{hint} no command of this machine, and so not to be granted: {names}")
    if guessed:
        flag = "--allow" if asked is None else "--require"
        words = " ".join(f"{flag} {one}" for one in guessed)
        console.note(
            f"{hint} the look-up of a name tells no port; if it is the usual one: "
            f"`{console.printable(words, 4000)}`"
        )
    for advice, refused in never.items():
        text = f"this sandbox cannot grant {', '.join(refused)}" + f"; {advice}" * bool(advice)
        console.note(f"{hint} {console.printable(text, 1000)}")


def _how(group: list[Violation]) -> str:
    from omnibase.cli.enforce import needed, ungrantable

    first = group[0]
    ended = "no such name" if first.operation == "lookup" else "ended"
    names = ", ".join(dict.fromkeys(filter(None, (v.errno_name for v in group)))) or ended
    who = console.printable(first.process_name, 40)
    text = f"{times(sum(v.count for v in group))}: {first.operation}"
    text += f" by {who}" if who else ""
    text += f" ({names})"
    if first.reason is not None:
        text += f"; {console.printable(first.reason)}"
    elif needed(first) is None:
        text += f"; {ungrantable(first)}"
    return text


def times(count: int) -> str:
    """Writes how often."""
    return "once" if count == 1 else f"{count} times"
