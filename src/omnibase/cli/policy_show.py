"""``omnibase policy show`` and ``history``: a policy, and how it came to be."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from omnibase.cli import console, exits, report
from omnibase.cli.policy_words import POLICY, add_json_option, aligned, say
from omnibase.errors import ConfigurationError

if TYPE_CHECKING:
    from omnibase.cli.commands import Invocation, Parser
    from omnibase.core.registry import Component, PolicyVersion, RegistryStore

__all__ = ["add_arguments", "execute"]

# A carriage return may stand between the words of JSON: it would hide what is before it.
_ESCAPES: Final = {**console.TERMINAL_ESCAPES, ord("\r"): "\\r"}
_SHOW_EPILOG: Final = """\
The document alone is on standard output: JSON byte for byte as it is kept, or Cedar.
On a terminal, control characters in it are shown as escapes such as \\r.

examples:
  omnibase policy show report > report.cedar.json
  omnibase policy show report#3 --cedar
  omnibase policy show draft.cedar --json\
"""
_HISTORY_EPILOG: Final = """\
The oldest version comes first, and the current one is marked. See a version with
`omnibase policy show COMPONENT#N`.

examples:
  omnibase policy history report
  omnibase policy history report@1.0.0 --json\
"""


def add_arguments(parser: Parser, name: str) -> None:
    """Declares the flags."""
    from omnibase.cli.stores import add_registry_option

    if name.endswith("show"):
        parser.add_argument("policy", metavar="COMPONENT|FILE", help=POLICY)
        parser.add_argument("--cedar", action="store_true", help="in Cedar's own syntax")
        parser.epilog = _SHOW_EPILOG
    else:
        parser.add_argument(
            "component", metavar="COMPONENT", help="uuid, name, name@version or name@constraint"
        )
        parser.epilog = _HISTORY_EPILOG
    add_registry_option(parser)
    add_json_option(parser)


def execute(invocation: Invocation) -> int:
    """Runs ``show`` or ``history``."""
    run = _show if invocation.name.endswith("show") else _history
    return run(invocation.options)


def _show(options: Any) -> int:
    from omnibase.cli.stores import named_policies

    if options.json and options.cedar:
        raise ConfigurationError("`--json` and `--cedar` are two forms", hint="choose one")
    (named,) = named_policies(options, options.policy)
    if options.json:
        report.print_json({**named.to_dict(), "document": named.policy.document})
        return exits.OK
    data = named.policy.to_cedar().encode() if options.cedar else named.document
    if os.isatty(1):
        data = data.decode().translate(_ESCAPES).encode()
    console.write(1, data)
    return exits.OK


def _history(options: Any) -> int:
    from omnibase.cli.stores import existing, no_policy

    with existing(options) as store:
        component = store.find(options.component)
        if component.policy is None:
            raise no_policy(component)
        versions = _versions(store, component)
    current = component.policy_version
    if options.json:
        report.print_json(
            {
                "component": str(component.uuid),
                "reference": component.reference,
                "current": current,
                "versions": [_to_dict(one, current) for one in versions],
            }
        )
        return exits.OK
    for line in aligned(
        (
            "current" if one.version == current else "", f"#{one.version}", one.time,
            one.author or "-", one.sha256, one.comment,
        )
        for one in versions
    ):  # fmt: skip
        say(line)
    return exits.OK


def _versions(store: RegistryStore, component: Component) -> list[PolicyVersion]:
    """Returns all versions, oldest first; the record itself holds the newest alone."""
    policy = component.policy
    if policy is None or policy.history[0].version == 1:
        return list(policy.history) if policy else []
    found = {
        one.version: one
        for past in store.history(component.uuid)
        if past.policy is not None
        for one in past.policy.history
    }
    return [found[version] for version in sorted(found)]


def _to_dict(one: PolicyVersion, current: int) -> dict[str, Any]:
    return {
        "version": one.version,
        "current": one.version == current,
        "time": one.time,
        "author": one.author,
        "comment": one.comment,
        "sha256": one.sha256,
        "revision": one.revision,
    }
