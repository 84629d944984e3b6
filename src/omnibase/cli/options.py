"""The flags that `run`, `explain` and `learn` share, and what they stand for."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from omnibase.cli import console
from omnibase.cli.outputs import add_store_option, add_target_option
from omnibase.core.context import ExecutionContext, parse_size
from omnibase.core.security.capabilities import Capability, CapabilitySet
from omnibase.errors import CapabilityError, ConfigurationError

if TYPE_CHECKING:
    from omnibase.cli.commands import Parser
    from omnibase.core.secrets import SecretStore

__all__ = [
    "Inputs",
    "add_run_options",
    "add_secrets_option",
    "read_inputs",
    "read_script",
    "secrets_of",
]

_MAX_SCRIPT_BYTES: Final = 64 << 20
_MAX_STDIN_BYTES: Final = 256 << 20

# flag, field of the ExecutionContext, metavar, what it is
_QUOTAS: Final[tuple[tuple[str, str, str, str], ...]] = (
    ("--memory", "memory_bytes", "SIZE",
     "memory of the whole sandbox, e.g. 128MiB: sets the ceiling and grants all of it "
     "(default: 50MB granted, of a ceiling of 256MiB)"),
    ("--cpus", "cpus", "N", "CPUs, e.g. 0.5 (default: 1)"),
    ("--timeout", "wall_seconds", "SECONDS", "from the start to the forced end (default: 30)"),
    ("--cpu-time", "cpu_seconds", "SECONDS", "CPU time of the sandbox (default: no bound)"),
    ("--pids", "pids", "N", "processes and threads at one time (default: 64)"),
    ("--output", "output_bytes", "SIZE", "standard output and error together (default: 16MiB)"),
    ("--scratch", "scratch_bytes", "SIZE", "size of the writable /tmp, and of what is left in "
     "/artifacts/out (default: 64MiB)"),
    ("--artifact-bytes", "artifact_bytes", "SIZE",
     "artifacts that it leaves, together (default: 64MiB)"),
    ("--artifact-count", "artifact_count", "N", "how many artifacts it leaves (default: 64)"),
    ("--egress-connections", "egress_connections", "N",
     "connections of each network grant at one time (default: 512)"),
    ("--egress-bytes", "egress_bytes", "SIZE",
     "what each network grant may send and receive, together (default: 16GiB)"),
    ("--egress-idle", "egress_idle_seconds", "SECONDS",
     "a connection on which nothing moves for so long is ended (default: 60)"),
)  # fmt: skip
_WHOLE: Final = ("--pids", "--artifact-count", "--egress-connections")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a run is to be given.

    Attributes:
        args: The script's own arguments.
        stdin: Bytes for its standard input.
        capabilities: What it may do.
        context: Its quotas.
        env: Its environment variables.
        secrets: Where secrets are kept.
        packages: A requirements file.
        venv: A virtual environment.
        require_hashes: Of the requirements.
        artifacts: Where artifacts are kept; ``None`` for the default.
    """

    args: tuple[str, ...]
    stdin: bytes
    capabilities: CapabilitySet
    context: ExecutionContext
    env: dict[str, str]
    secrets: SecretStore
    artifacts: str | None
    packages: str | None = None
    venv: str | None = None
    require_hashes: bool = False

    def keywords(self) -> dict[str, Any]:
        """Returns what `omnibase.run` and `omnibase.run_component` both take."""
        return {
            **({} if self.packages is None else {"packages": self.packages}),
            **({} if self.venv is None else {"venv": self.venv}),
            "args": self.args, "stdin": self.stdin, "env": self.env,
            "capabilities": self.capabilities, "context": self.context, "secrets": self.secrets,
            "artifacts": self.artifacts,
        }  # fmt: skip


def add_run_options(parser: Parser, *, component: bool = False) -> None:
    """Adds the shared flags.

    Args:
        parser: Gets them.
        component: A component runs, not a file.
    """
    from omnibase.cli.commands import Once

    what = "COMPONENT" if component else "SCRIPT"
    parser.usage = f"{parser.prog} {what} [options] [-- ARGS ...]"
    if component:
        parser.add_argument(
            "component", metavar=what, help="uuid, name, name@version or name@constraint"
        )
    else:
        parser.add_argument("script", metavar=what, help="Python file, or - for standard input")
    given = parser.add_argument_group(
        "what to ask for, besides what the component requires" if component else
        "what the script may do"
    )  # fmt: skip
    given.add_argument("--capabilities", action=Once, metavar="FILE", help="capability file (JSON)")
    given.add_argument(
        "--allow", action="append", default=[], metavar="TYPE:RESOURCE",
        help=("ask for" if component else "grant")
        + " one more capability, e.g. FILE_READ:/data/input.csv; may be repeated",
    )  # fmt: skip
    quotas = parser.add_argument_group("limits")
    for flag, field, metavar, text in _QUOTAS:
        if component:
            text = text.replace("and grants all of it", "and asks for all of it")
        quotas.add_argument(flag, action=Once, dest=field, metavar=metavar, help=text)
    inputs = parser.add_argument_group("what the script is given")
    inputs.add_argument(
        "--env", action="append", default=[], metavar="NAME=VALUE",
        help="environment variable; may be repeated; it sees no others of yours",
    )  # fmt: skip
    inputs.add_argument(
        "--stdin", action=Once, metavar="FILE",
        help="its standard input; - passes on ours (default: empty)",
    )  # fmt: skip
    add_secrets_option(inputs)
    if not component:
        add_package_options(parser)
    add_store_option(inputs)
    outcome = parser.add_argument_group("what happens")
    if "learn" not in parser.prog:
        add_target_option(outcome)
        outcome.add_argument(
            "--on-violation", action=Once, metavar="raise|kill|record",
            help="on an attempt beyond the grants: report it at the end with exit code 121, "
            "end the run at the first, or only list it (default: raise)",
        )  # fmt: skip
    outcome.add_argument(
        "--on-output-limit", action=Once, metavar="raise|truncate",
        help="end the run at the output limit, or cut the output and go on (default: raise)",
    )  # fmt: skip
    outcome.add_argument(
        "--events", action=Once, metavar="FILE", help="append the run's events to a JSONL file"
    )
    outcome.add_argument(
        "--audit", action=Once, metavar="DIR|off",
        help="the audit log that the run's events go to (default: $OMNIBASE_AUDIT, else `audit` "
        "in the state directory)",
    )  # fmt: skip
    if "learn" not in parser.prog and "explain" not in parser.prog:
        outcome.add_argument(
            "--pool", action="store_true",
            help="run in a sandbox of the pool's daemon, which is ready: see `omnibase pool start`",
        )  # fmt: skip
    outcome.add_argument(
        "--json", action="store_true", help="one JSON object on standard output, nothing else"
    )


def add_package_options(parser: Parser) -> None:
    """Adds what a script may import."""
    from omnibase.cli.commands import Once

    group = parser.add_argument_group("what the script may import")
    group.add_argument(
        "--packages", action=Once, metavar="FILE",
        help="packages by a requirements file or a lock: fetched and unpacked first, in "
        "sandboxes of their own, unless they are there",
    )  # fmt: skip
    group.add_argument(
        "--require-hashes",
        action="store_true",
        help="refuse requirements that do not name each file's hash",
    )
    group.add_argument(
        "--venv",
        action=Once,
        metavar="DIR",
        help="a virtual environment of this Python: grants reading its site-packages",
    )


def add_secrets_option(group: Any) -> None:
    """Adds ``--secrets``; `secrets_of` reads it."""
    from omnibase.cli.commands import Once

    group.add_argument(
        "--secrets", action=Once, default="env", metavar="env|dir:PATH|keyring",
        help="where the values of SECRET_ACCESS grants are: in the environment "
        "(OMNIBASE_SECRET_NAME), in a directory of files that are yours alone, or in the "
        "system's keyring (default: env)",
    )  # fmt: skip


def secrets_of(options: Any) -> SecretStore:
    """Returns the store that ``--secrets`` names.

    Raises:
        ConfigurationError: It names none.
    """
    from omnibase.core.secrets import secret_store

    try:
        return secret_store(options.secrets)
    except ConfigurationError as error:
        raise ConfigurationError(f"`--secrets`: {error.message}", hint=error.hint) from None


def read_inputs(options: Any, rest: tuple[str, ...], *, dry: bool = False) -> Inputs:
    """Reads the flags, and the files that they name.

    Args:
        options: What the parser read.
        rest: The script's own arguments.
        dry: Nothing will run, so standard input stays unread.

    Raises:
        ConfigurationError: A flag or a file is wrong.
        CapabilityError: A capability is malformed.
    """
    if getattr(options, "script", None) == "-" and options.stdin == "-":
        raise ConfigurationError(
            "standard input cannot be both the script and its input",
            hint="put one of them into a file",
        )
    if options.audit == "":
        raise ConfigurationError("`--audit` is empty", hint="name a directory, or `off`")
    if options.audit not in (None, "off"):
        from omnibase.core.audit.places import reserve

        reserve(options.audit)
    packages = _packages(options)
    context = _context(options)
    capabilities = _capabilities(options)
    env = _environment(options.env)
    stdin = b""
    if options.stdin is not None and not (dry and options.stdin == "-"):
        stdin = _read_stdin(options.stdin)
    return Inputs(
        args=rest,
        stdin=stdin,
        capabilities=capabilities,
        context=context,
        env=env,
        secrets=secrets_of(options),
        **packages,
        artifacts=options.artifacts,
    )


def _packages(options: Any) -> dict[str, Any]:
    names = ("packages", "venv", "require_hashes")
    found = {name: getattr(options, name, None) for name in names}
    for flag in ("packages", "venv"):
        if found[flag] == "":
            raise ConfigurationError(f"`--{flag}` is empty", hint="name a file or directory")
    if found["require_hashes"] and found["packages"] is None:
        raise ConfigurationError(
            "`--require-hashes` is about `--packages`, which is not given",
            hint="name a requirements file: `--packages FILE`",
        )
    if found["require_hashes"]:  # of whatever is done with them: run, explain or learn
        from omnibase.packages import require_hashed, wanted_of

        require_hashed(wanted_of(options.packages))
    return {**found, "require_hashes": bool(found["require_hashes"])}


def read_script(options: Any) -> Path | bytes:
    """Returns the script's path, or its source if that comes on standard input.

    Raises:
        ConfigurationError: No file is named, or standard input cannot be read.
    """
    if options.script == "":
        raise ConfigurationError("`SCRIPT` is empty", hint="name a Python file")
    if options.script == "-":
        return _read_all(0, _MAX_SCRIPT_BYTES, "the script on standard input")
    return Path(options.script)


def _context(options: Any) -> ExecutionContext:
    context = ExecutionContext()
    for flag, field, metavar, _ in _QUOTAS:
        text = getattr(options, field)
        if text is not None:
            context = _with(context, flag, field, _number(flag, text, metavar))
    # `learn` has no choice of the first: it records.
    for flag, field in (("--on-violation", "on_violation"), ("--on-output-limit",
                        "on_output_limit")):  # fmt: skip
        text = getattr(options, field, None)
        if text is not None:
            context = _with(context, flag, field, text)
    return context


def _with(context: ExecutionContext, flag: str, field: str, value: object) -> ExecutionContext:
    try:
        return replace(context, **{field: value})  # type: ignore[arg-type]
    except ConfigurationError as error:
        reason = error.message.partition("` ")[2]
        shown = console.size(value) if isinstance(value, int) and "bytes" in field else value
        hint = error.hint
        if "bytes" in field and hint:
            bounds = (console.size(float(word)) for word in hint.split() if word[0].isdigit())
            hint = "choose " + " to ".join(bounds)
        raise ConfigurationError(f"`{flag} {shown}` {reason}", hint=hint) from None


def _number(flag: str, text: str, metavar: str) -> int | float:
    try:
        if metavar == "SIZE":
            return parse_size(text)
        return int(text) if flag in _WHOLE else float(text)
    except ConfigurationError as error:
        raise ConfigurationError(f"`{flag} {text[:80]}` is not a size", hint=error.hint) from None
    except ValueError:
        what = "a whole number" if flag in _WHOLE else "a number"
        raise ConfigurationError(
            f"`{flag} {text[:80]}` is not {what}",
            hint="write seconds, e.g. `2.5`" if metavar == "SECONDS" else "write e.g. `2`",
        ) from None


def _capabilities(options: Any) -> CapabilitySet:
    granted = CapabilitySet()
    if options.capabilities is not None:
        from omnibase.core.security.capability_file import load_capabilities

        granted = load_capabilities(options.capabilities)
    more = []
    for text in options.allow:
        try:
            more.append(Capability.parse(text))
        except CapabilityError as error:
            raise CapabilityError(
                f"`--allow`: {error.message}", details=error.details, hint=error.hint
            ) from None
    if options.memory_bytes is not None:
        more.append(Capability.parse(f"MEMORY:{options.memory_bytes}"))
    return granted.union(more)


def _environment(pairs: list[str]) -> dict[str, str]:
    env: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ConfigurationError(
                f"`--env {pair[:80]}` is not `NAME=VALUE`",
                hint="write the value too; nothing of your own environment is passed on",
            )
        if name in env:
            raise ConfigurationError(f"`--env {name[:80]}` is given twice", hint="choose one")
        env[name] = value
    return env


def _read_stdin(name: str) -> bytes:
    if name == "-":
        return _read_all(0, _MAX_STDIN_BYTES, "standard input")
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"`--stdin {name}` cannot be read: {getattr(error, 'strerror', error)}",
            hint="check the path",
        ) from None
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise ConfigurationError(f"`--stdin {name}` is a directory", hint="name a file")
        return _read_all(fd, _MAX_STDIN_BYTES, f"`--stdin {name}`")
    finally:
        os.close(fd)


def _read_all(fd: int, limit: int, what: str) -> bytes:
    parts: list[bytes] = []
    length = 0
    try:
        while chunk := os.read(fd, 1 << 20):
            parts.append(chunk)
            length += len(chunk)
            if length > limit:
                raise ConfigurationError(
                    f"{what} is larger than {limit >> 20} MiB", hint="grant a file instead"
                )
    except OSError as error:
        raise ConfigurationError(
            f"{what} cannot be read: {error.strerror}", hint="check where it comes from"
        ) from None
    return b"".join(parts)
