"""What the commands on registries and policies share: where they are, and how they are named."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from omnibase.errors import ConfigurationError, PolicyError, RegistryError

if TYPE_CHECKING:
    from omnibase.cli.commands import Parser
    from omnibase.core.registry import Component, RegistryStore
    from omnibase.core.security.decision import PolicyContext
    from omnibase.core.security.policy import Policy

__all__ = [
    "NamedPolicy",
    "add_author_options",
    "add_context_options",
    "add_registry_option",
    "author_of",
    "context_of",
    "existing",
    "is_file",
    "named_policies",
    "named_policy",
    "no_policy",
    "read_file",
    "read_policy",
]

_FILE_SUFFIXES: Final = (".json", ".cedar")
_NOBODY: Final = UUID(int=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedPolicy:
    """A policy as the command line named it.

    Attributes:
        policy: The policy.
        document: Its document in Cedar's JSON form: what is kept, byte for byte.
        source: For messages: a file, or ``name@version#policy-version``.
        component: Whose it is, if it came from the registry.
        version: As the registry counts it, likewise.
    """

    policy: Policy
    document: bytes
    source: str
    component: Component | None = None
    version: int | None = None

    @property
    def names_nobody(self) -> bool:
        """Whether it is a file that does not say whose policy it is, having none in it."""
        return self.policy.principal == _NOBODY

    def to_dict(self) -> dict[str, Any]:
        """Returns which policy it is as JSON-ready data."""
        return {
            "source": self.source,
            "component": None if self.names_nobody else str(self.policy.principal),
            "version": self.version,
            "sha256": self.policy.sha256,
            "policies": len(self.policy.rules),
        }


def add_registry_option(parser: Parser) -> None:
    """Adds ``--registry``."""
    from omnibase.cli.commands import Once

    parser.add_argument(
        "--registry", action=Once, metavar="LOCATION",
        help="directory, or database URL (default: $OMNIBASE_REGISTRY, else ./registry)",
    )  # fmt: skip


def add_author_options(parser: Parser) -> None:
    """Adds what goes on the record of a change."""
    from omnibase.cli.commands import Once

    record = parser.add_argument_group("on the record")
    record.add_argument(
        "--author", action=Once, metavar="NAME", help="who makes the change (default: the user)"
    )
    record.add_argument("--comment", action=Once, metavar="TEXT", help="why")


def add_context_options(parser: Parser, *, every: bool = False) -> None:
    """Adds the circumstances that conditions ask for.

    Args:
        parser: Gets the options.
        every: What is not given is every circumstance that matters; else it is the
            component's, or a default.
    """
    from omnibase.cli.commands import Once

    of_component, where_run = "the component's, else ", "default"
    if every:
        of_component, where_run = "", "all that the policies tell apart"
    where = parser.add_argument_group("circumstances")
    for flag, values, default in (
        ("--trust", "untrusted|semi_trusted|trusted", "untrusted"),
        ("--lifecycle", "draft|active|deprecated|retired", "active"),
        ("--environment", "NAME", ""),
    ):
        shown = where_run if every or not default else of_component + default
        what = "where it runs " if not default else ""
        where.add_argument(flag, action=Once, metavar=values, help=f"{what}(default: {shown})")


def context_of(options: Any, component: Component | None = None) -> PolicyContext:
    """Returns the circumstances: as given, else the component's, else the defaults.

    Raises:
        ConfigurationError: One is not known.
    """
    from omnibase.core.security.decision import PolicyContext

    fields: dict[str, str] = {}
    if component is not None:
        fields = {"trust": component.trust.value, "lifecycle": component.lifecycle.value}
    for name in ("trust", "lifecycle", "environment"):
        if getattr(options, name) is not None:
            fields[name] = getattr(options, name)
    return PolicyContext(**fields)


def author_of(options: Any) -> str:
    """Returns who makes a change: as given, else whoever is behind ``sudo`` or this process."""
    if options.author is not None:
        return str(options.author)
    import pwd

    with contextlib.suppress(KeyError):
        return os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    return str(os.getuid())


@contextlib.contextmanager
def existing(options: Any, *, or_new: bool = False) -> Iterator[RegistryStore]:
    """Opens the registry that the command line names, and that must be there already.

    A misspelt location would else be an empty registry, in which nothing is wrong.

    Args:
        options: What the parser read.
        or_new: It need not be there: the first write makes it.

    Raises:
        ConfigurationError: There is none.
    """
    from omnibase.registries import open_registry

    with contextlib.closing(open_registry(options.registry, must_exist=not or_new)) as store:
        yield store


def read_file(path: str, limit: int, what: str) -> bytes:
    """Reads a whole file, bounded, and never waits for a writer.

    Args:
        path: The file.
        limit: Most bytes.
        what: What it is, for the error.

    Raises:
        ConfigurationError: It cannot be read, is not regular, or is too large.
    """
    from omnibase.core.security.strict_json import read_file as read_strictly

    try:
        return read_strictly(path, limit=limit)
    except ConfigurationError as error:
        raise ConfigurationError(
            error.message, details=error.details, hint=f"name {what}"
        ) from None


def read_policy(path: str, principal: UUID | None = None) -> NamedPolicy:
    """Reads a policy file: Cedar's JSON form, or Cedar's own syntax.

    Args:
        path: The file; what it holds tells the form.
        principal: Whose policy it must be; else the file's name or the first policy says.

    Raises:
        ConfigurationError: The file cannot be read.
        PolicyError: It is no policy that is accepted.
    """
    from omnibase.core.security.policy import Policy
    from omnibase.core.security.policy_refusals import in_cedar
    from omnibase.core.security.policy_schema import MAX_POLICY_FILE_BYTES
    from omnibase.core.security.policy_text import json_of

    document = read_file(path, MAX_POLICY_FILE_BYTES, "a policy file")
    if not document.strip():  # a file that was cut off must not pass for one that denies all
        raise ConfigurationError(
            f"`{path}` is empty",
            hint='to permit nothing, write `{"staticPolicies": {}, "templates": {}, '
            '"templateLinks": []}`',
        )
    try:
        text = None if _is_json(path, document) else _text(path, document)
        if text is not None:
            document = json_of(text, path)
        principal = principal or _principal_of(path, document)
        try:
            policy = Policy.parse(document, path, principal)
        except PolicyError as error:
            if text is None:
                raise
            raise in_cedar(error, document, text, path, principal) from None
    except PolicyError as error:
        # What a person named is a file like others; only what the registry holds is an alarm.
        details = {**error.details, "reason": "invalid"}
        raise PolicyError(error.message, details=details, hint=error.hint) from None
    return NamedPolicy(policy=policy, document=document, source=path)


def _is_json(path: str, data: bytes) -> bool:
    """Says which form a file is in: its name does, else what it begins with."""
    if path.endswith(_FILE_SUFFIXES):
        return path.endswith(".json")
    return data.lstrip()[:1] == b"{"


def _text(path: str, data: bytes) -> str:
    from omnibase.core.security.patterns import quoted

    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PolicyError(
            f"{quoted(path)}, line {line}: byte `0x{data[error.start]:02x}` is not UTF-8",
            details={"source": quoted(path)[1:-1], "line": line},
            hint="save it as UTF-8",
        ) from None


def _principal_of(path: str, data: bytes) -> UUID:
    """Finds whose policy a document says that it is; parsing checks that all of it agrees."""
    stem = Path(path).name.partition(".")[0]
    with contextlib.suppress(ValueError):
        return UUID(stem)
    with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError):
        for policy in json.loads(data)["staticPolicies"].values():
            return UUID(policy["principal"]["entity"]["id"])
    return _NOBODY


def is_file(reference: str) -> bool:
    """Says whether a policy is named by its file, and not by its component."""
    return "/" in reference or reference.endswith(_FILE_SUFFIXES)


def named_policies(
    options: Any, *references: str, or_none: bool = False
) -> tuple[NamedPolicy, ...]:
    """Finds policies as `named_policy` does; files alone need no registry."""
    if all(map(is_file, references)):
        return tuple(map(read_policy, references))
    with existing(options) as store:
        return tuple(named_policy(one, store, or_none=or_none) for one in references)


def named_policy(
    reference: str, store: RegistryStore | None, *, or_none: bool = False
) -> NamedPolicy:
    """Finds a policy: a file, or a component's, ``#3`` for an older version of it.

    Args:
        reference: What has a slash or ends in ``.json`` or ``.cedar`` is a file.
        store: The registry; ``None`` if only a file will do.
        or_none: A component without a policy has one that permits nothing.

    Raises:
        ConfigurationError, PolicyError, RegistryError: It cannot be had.
    """
    if store is None or is_file(reference):
        return read_policy(reference)
    from omnibase.registries import policy_of

    name, mark, number = reference.partition("#")
    version = None
    if mark:
        if not (number.isascii() and number.isdigit() and 0 < len(number) < 10):
            raise ConfigurationError(
                f"`{reference[:200]}` names no version of a policy", hint=f"e.g. `{name[:100]}#1`"
            )
        version = int(number)
    component = store.find(name)
    policy, found = policy_of(store, component, version if component.policy else None)
    if found is None:
        if mark or not or_none:
            raise no_policy(component)
        return NamedPolicy(
            policy=policy,
            document=policy.to_json(),
            source=f"{component.reference}, which has no policy",
            component=component,
        )
    return NamedPolicy(
        policy=policy,
        document=found.document,
        source=f"{component.reference}#{found.version}",
        component=component,
        version=found.version,
    )


def no_policy(component: Component) -> RegistryError:
    """Returns the error for a component that has no policy."""
    return RegistryError(
        f"`{component.reference}` has no policy, so that everything is denied",
        details={"reason": "missing", "uuid": str(component.uuid)},
        hint=f"add one: `omnibase policy import {component.uuid} FILE`",
    )
