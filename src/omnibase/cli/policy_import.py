"""``omnibase policy import``: makes a file a component's policy."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from omnibase.cli import exits, report
from omnibase.cli.policy_words import add_json_option, note, say
from omnibase.errors import ConfigurationError

if TYPE_CHECKING:
    from omnibase.cli.commands import Invocation, Parser
    from omnibase.cli.policy_changes import Comparison
    from omnibase.cli.stores import NamedPolicy
    from omnibase.core.registry import Component, RegistryStore

__all__ = ["add_arguments", "execute"]

_EPILOG: Final = """\
FILE is Cedar's JSON form, kept byte for byte, or Cedar's own syntax, kept as JSON.
Every policy in it must be for the component. Shown are lint findings, and what the
change grants and takes away. A file that is the current policy already is no change.

examples:
  omnibase policy import report draft.cedar --dry-run
  omnibase policy import report draft.cedar --comment 'salaries are closed'
  omnibase policy import report@1.0.0 report.cedar.json --expected-version 3 --author ann\
"""


def add_arguments(parser: Parser, _name: str) -> None:
    """Declares the flags."""
    from omnibase.cli.commands import Once
    from omnibase.cli.stores import add_author_options, add_registry_option

    parser.add_argument(
        "component", metavar="COMPONENT", help="uuid, name, name@version or name@constraint"
    )
    parser.add_argument("file", metavar="FILE", help="policy file")
    parser.add_argument(
        "--expected-version", action=Once, metavar="N",
        help="refuse if the current version is another one, 0 for none (default: as it is read)",
    )  # fmt: skip
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would change, and write nothing"
    )
    add_author_options(parser)
    add_registry_option(parser)
    add_json_option(parser)
    parser.epilog = _EPILOG


def execute(invocation: Invocation) -> int:
    """Stores the policy and prints what that changes."""
    from omnibase.cli.registry_view import in_words_of_the_command
    from omnibase.cli.registry_write import the_one
    from omnibase.cli.stores import existing, read_policy
    from omnibase.core.registry.rehearsal import rehearse
    from omnibase.core.security.policy_lint import lint
    from omnibase.registries import policy_of

    options = invocation.options
    expected = _number(options.expected_version)
    with existing(options) as store:
        component = the_one(store, options.component)
        named = read_policy(options.file, component.uuid)
        old, _ = policy_of(store, component)
        at = component.policy_version if expected is None else expected
        steps = partial(_put, component, named, at, options)
        with in_words_of_the_command():
            rehearse(store, steps)
        same = component.policy_sha256 == named.policy.sha256
        findings = lint(named.policy)
        changes = _compared(old, named)
        written = None
        if not same and not options.dry_run:
            with in_words_of_the_command():
                written = steps(store)
    version = (written or component).policy_version + (0 if same or written else 1)
    for finding in findings:
        note(f"{finding.code}, policy `{finding.policy}`: {finding.message}")
    if options.json:
        report.print_json(
            {
                **named.to_dict(),
                "component": str(component.uuid),
                "reference": component.reference,
                "version": version,
                "written": written is not None,
                "findings": [finding.to_dict() for finding in findings],
                **(changes.to_dict() if changes else {"changes": None}),
            }
        )
    else:
        _show(component, named, changes, version, same, written is not None)
    return exits.OK


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ConfigurationError(
            f"`--expected-version {text[:80]}` is not a version",
            hint="write a whole number, 0 if there is no policy yet",
        )
    return int(text)


def _compared(old: Any, named: NamedPolicy) -> Comparison | None:
    from omnibase.cli.policy_changes import compare

    try:
        return compare(old, named.policy, {})
    except ConfigurationError as error:  # the policy is good, there is only too much to say
        note(f"what changes is not shown: {error.message}", "see `omnibase policy diff`")
        return None


def _put(
    component: Component, named: NamedPolicy, version: int, options: Any, store: RegistryStore
) -> Component:
    from omnibase.cli.stores import author_of

    return store.put_policy(
        component.uuid,
        named.document,
        expected_version=version,
        author=author_of(options),
        comment=options.comment or "",
    )


def _show(
    component: Component,
    named: NamedPolicy,
    changes: Comparison | None,
    version: int,
    same: bool,
    written: bool,
) -> None:
    from omnibase.cli import console
    from omnibase.cli.policy_changes import show

    if same:
        say(f"{component.reference}: it is policy version {version} already, nothing is written")
        return
    if changes is not None:
        show(changes)
        if not changes.changes:
            say("nothing is granted or denied that was not before")
    done = (
        "policy version" if written else "dry run, nothing is written: it would be policy version"
    )
    say(f"{console.printable(component.reference)}: {done} {version}, sha256 {named.policy.sha256}")
