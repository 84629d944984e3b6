"""``omnibase policy diff``: what a change of policy grants and takes away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from omnibase.cli import exits, report
from omnibase.cli.policy_words import (
    POLICY,
    add_json_option,
    aligned,
    note,
    say,
)
from omnibase.errors import ConfigurationError

if TYPE_CHECKING:
    from omnibase.cli.commands import Invocation, Parser
    from omnibase.cli.policy_changes import Comparison
    from omnibase.cli.stores import NamedPolicy

__all__ = ["add_arguments", "execute"]

_EPILOG: Final = """\
Compared are all capabilities, in all circumstances that the policies tell apart;
`--trust`, `--lifecycle` and `--environment` fix them. With a difference the exit code
is 1. `--replay` reads a file as `omnibase run --events` writes it and decides each run
of NEW's component again, in the circumstances on record: what would have gone
otherwise is a difference, and so is a record that cannot be compared.

examples:
  omnibase policy diff report#2 report
  omnibase policy diff report draft.cedar --replay audit.jsonl
  omnibase policy diff old.cedar.json new.cedar.json --environment production --json\
"""


def add_arguments(parser: Parser, _name: str) -> None:
    """Declares the flags."""
    from omnibase.cli.commands import Once
    from omnibase.cli.stores import add_context_options, add_registry_option

    parser.add_argument("old", metavar="OLD", help=POLICY)
    parser.add_argument("new", metavar="NEW", help="likewise")
    parser.add_argument(
        "--replay", action=Once, metavar="AUDIT",
        help="JSONL file of events: decide its runs again by NEW",
    )  # fmt: skip
    add_context_options(parser, every=True)
    add_registry_option(parser)
    add_json_option(parser)
    parser.epilog = _EPILOG


def execute(invocation: Invocation) -> int:
    """Prints the differences; 1 if there are any."""
    from omnibase.cli.policy_changes import compare, show
    from omnibase.cli.policy_replay import Replay

    options = invocation.options
    old, new = _named(options)
    parts = ("trust", "lifecycle", "environment")
    given = {part: getattr(options, part) for part in parts if getattr(options, part) is not None}
    replay = None
    if options.replay is not None:
        if new.names_nobody:
            raise ConfigurationError(
                "neither policy names a component whose runs could be decided again",
                hint="name the file `UUID.cedar.json`",
            )
        replay = Replay(new.policy, options.replay)
    found = compare(old.policy, new.policy, given)
    if options.json:
        report.print_json(_document(old, new, found, replay))
    else:
        _head(old, new)
        show(found)
        if not found.changes:
            say("they grant and deny the same")
        if replay is not None:
            replay.show()
    if replay is not None:
        replay.tell()
    differ = found.changes or (replay is not None and replay.differs)
    return exits.UNFIT if differ else exits.OK


def _named(options: Any) -> tuple[NamedPolicy, NamedPolicy]:
    """Returns both policies; a file that names nobody is the other one's component's."""
    from omnibase.cli.stores import named_policies, read_policy

    old, new = named_policies(options, options.old, options.new, or_none=True)
    if old.names_nobody:
        old = read_policy(options.old, new.policy.principal)
    elif new.names_nobody:
        new = read_policy(options.new, old.policy.principal)
    if old.policy.principal != new.policy.principal:
        note(
            f"they are policies of different components: `{old.policy.principal}` and "
            f"`{new.policy.principal}`"
        )
    return old, new


def _head(old: NamedPolicy, new: NamedPolicy) -> None:
    for line in aligned(
        (side, one.source, f"sha256 {one.policy.sha256}")
        for side, one in (("old", old), ("new", new))
    ):
        say(line)


def _document(old: NamedPolicy, new: NamedPolicy, found: Comparison, replay: Any) -> dict[str, Any]:
    return {
        "old": old.to_dict(),
        "new": new.to_dict(),
        **found.to_dict(),
        "replay": None if replay is None else replay.to_dict(),
    }
