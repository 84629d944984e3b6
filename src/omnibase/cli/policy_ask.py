"""``omnibase policy check`` and ``explain``: what a policy says to a request, and why."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Final

from omnibase.cli import console, exits, report
from omnibase.cli.policy_words import (
    POLICY,
    add_json_option,
    aligned,
    circumstances,
    counted,
    note,
    outcomes,
    policies_of,
    say,
    say_rows,
    warn_of_nobody,
)
from omnibase.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omnibase.cli.commands import Invocation, Parser
    from omnibase.cli.stores import NamedPolicy
    from omnibase.core.security.capabilities import CapabilitySet
    from omnibase.core.security.decision import Decision, PolicyContext, Verdict
    from omnibase.core.security.policy_explain import Explanation

__all__ = ["add_arguments", "execute"]

_CHECK_EPILOG: Final = """\
Without a CAPABILITY, what the component's record requires is decided, as a run does.
The exit code is 0 if all is granted, with masks or without, and 120 if something is
denied.

examples:
  omnibase policy check report
  omnibase policy check report FILE_READ:/data/in.csv NETWORK_CONNECT:api.example.com:443
  omnibase policy check report#3 --capabilities caps.json --environment production
  omnibase policy check draft.cedar 'FILE_READ:/data/**' --trust trusted --json\
"""
_EXPLAIN_EPILOG: Final = """\
The change is tried on a copy of the policy; nothing is written.

examples:
  omnibase policy explain report FILE_READ:/data/secret/x
  omnibase policy explain draft.cedar 'NETWORK_CONNECT:*.example.com:443' --json
  omnibase policy explain report@1.0.0#2 MEMORY:128MiB --lifecycle draft\
"""


def add_arguments(parser: Parser, name: str) -> None:
    """Declares the flags."""
    from omnibase.cli.commands import Once
    from omnibase.cli.stores import add_context_options, add_registry_option

    example = "TYPE:resource, e.g. FILE_READ:/data/input.csv"
    parser.add_argument("policy", metavar="POLICY", help=POLICY)
    if name.endswith("check"):
        wanted = parser.add_argument(
            "capability", nargs="*", metavar="CAPABILITY",
            help=f"{example}; may be repeated (default: what the component requires)",
        )  # fmt: skip
        wanted.required = False  # so that only POLICY is said to be missing
        parser.add_argument(
            "--capabilities", action=Once, metavar="FILE", help="capability file (JSON): more"
        )
        parser.epilog = _CHECK_EPILOG
    else:
        parser.add_argument("capability", metavar="CAPABILITY", help=example)
        parser.epilog = _EXPLAIN_EPILOG
    add_context_options(parser)
    add_registry_option(parser)
    add_json_option(parser)


def execute(invocation: Invocation) -> int:
    """Runs ``check`` or ``explain``."""
    run = _check if invocation.name.endswith("check") else _explain
    return run(invocation.options)


def _check(options: Any) -> int:
    from omnibase.cli.stores import context_of, named_policies

    asked = _asked(options)
    (named,) = named_policies(options, options.policy, or_none=True)
    request = _required(named) if asked is None else asked
    context = context_of(options, named.component)
    warn_of_nobody(named)
    decision = named.policy.decide(named.policy.principal, request, context)
    if options.json:
        report.print_json({"policy": named.to_dict(), **decision.to_dict()})
    else:
        _show(named, decision)
    if not decision.denied:
        return exits.OK
    console.error(
        f"{counted(len(decision.denied), 'capability', 'capabilities')} of {len(request)} "
        f"{'is' if len(decision.denied) == 1 else 'are'} denied",
        f"see `omnibase policy explain {shlex.quote(options.policy)} "
        f"{shlex.quote(str(decision.denied[0].capability))}`",
    )
    return exits.DENIED


def _asked(options: Any) -> CapabilitySet | None:
    """Returns what the command line asks for; ``None``: nothing."""
    from omnibase.core.security.capabilities import CapabilitySet

    found = CapabilitySet.parse(options.capability)
    if options.capabilities is not None:
        from omnibase.core.security.capability_file import load_capabilities

        return found | load_capabilities(options.capabilities)
    return found if options.capability else None


def _required(named: NamedPolicy) -> CapabilitySet:
    """Returns what a run of the component asks for."""
    from omnibase.core.security.capabilities import CapabilitySet
    from omnibase.core.security.grants import UNSANDBOXED

    if named.component is None:
        raise ConfigurationError(
            "there is nothing to decide: a policy file says not what is required",
            hint="name capabilities, e.g. `FILE_READ:/data/input.csv`, or a component",
        )
    required = named.component.capabilities_required
    if UNSANDBOXED in required:
        note(f"`{UNSANDBOXED}` is left out: only `omnibase run --unsandboxed` asks for it")
    return CapabilitySet(one for one in required if one != UNSANDBOXED)


def _show(named: NamedPolicy, decision: Decision) -> None:
    rows = ((one.outcome.value, str(one.capability), one.message) for one in decision.verdicts)
    for line, verdict in zip(outcomes(rows), decision.verdicts, strict=True):
        say(line)
        for detail in aligned(_details(verdict)):
            say(f"  {detail}")
    counts = ", ".join(
        f"{sum(one.outcome.value == word for one in decision.verdicts)} {word}"
        for word in ("granted", "masked", "denied")
    )
    where = circumstances(decision.context)
    say(console.printable(f"{counts}, by {named.source} ({where})", 2000))


def _details(verdict: Verdict) -> Iterator[tuple[str, str]]:
    for mask in verdict.masks:
        yield ("mask", f"{mask.pattern}: {mask.reason}")
    if verdict.witness is not None:
        yield ("witness", f"{verdict.witness} is denied")
    yield from policies_of(verdict)


def _explain(options: Any) -> int:
    from omnibase.cli.stores import context_of, named_policies
    from omnibase.core.security.capabilities import Capability
    from omnibase.core.security.policy_explain import explain

    capability = Capability.parse(options.capability)
    (named,) = named_policies(options, options.policy, or_none=True)
    context = context_of(options, named.component)
    warn_of_nobody(named)
    found = explain(named.policy, named.policy.principal, capability, context)
    if options.json:
        report.print_json(
            {
                "policy": named.to_dict(),
                "context": context.to_dict(),
                **found.to_dict(),
                "warnings": _warnings(named, found, context),
            }
        )
        return exits.OK
    warnings = _warnings(named, found, context)
    verdict = found.verdict
    say_rows([(verdict.outcome.value, str(capability), verdict.message)])
    about = [*_details(verdict), ("decided by", named.source), ("for", circumstances(context))]
    for line in aligned(about):
        say(f"  {line}")
    _show_change(found)
    for warning in warnings:
        note(warning)
    if warnings and verdict.outcome.value == "denied" and verdict.forbids:
        note("requesting the parts that are permitted needs no change of the policy")
    return exits.OK


def _warnings(named: NamedPolicy, found: Explanation, context: PolicyContext) -> list[str]:
    """Returns what a suggested change does besides, so that nobody takes it unawares."""
    from omnibase.core.security.capabilities import CapabilitySet
    from omnibase.core.security.grants import UNSANDBOXED
    from omnibase.core.security.policy import Policy
    from omnibase.core.security.policy_lint import lint

    if found.document is None:
        return []
    policy = named.policy
    changed = Policy.parse(found.document, "the changed policy", policy.principal)
    never = {one.policy for one in lint(policy) if one.code == "OBP006"}
    off = [one.policy for one in lint(changed) if one.code == "OBP006" and one.policy not in never]
    warnings = [f"with that change policy `{id}` never applies: it is switched off" for id in off]
    if named.component is not None:
        required = CapabilitySet(
            one for one in named.component.capabilities_required if one != UNSANDBOXED
        )
        before = policy.decide(policy.principal, required, context).verdicts
        after = changed.decide(policy.principal, required, context).verdicts
        warnings += [
            f"with that change `{new.capability}`, which {named.component.reference} requires, "
            f"goes from {old.outcome.value} to {new.outcome.value}"
            for old, new in zip(before, after, strict=True)
            if old.outcome not in (new.outcome, "denied")
            and new.capability != found.verdict.capability
        ]
    return warnings


def _show_change(found: Explanation) -> None:
    what = "grant" if found.verdict.outcome.value == "denied" else "deny"
    if not found.changes:
        say(f"no single change of this policy would {what} it")
        return
    say(f"the smallest change that would {what} it:")
    for change in found.changes:
        if change.action == "narrow":
            say(f"  to policy `{console.printable(change.policy)}` add")
            say(f"    {console.printable(change.cedar, 20_000)}")
        else:
            say("  add")
            say(f"    {console.printable(change.cedar, 20_000)}")
