"""``omnibase run``: a component of the registry, with what its policy grants."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from omnibase.cli import console, exits
from omnibase.cli.options import Inputs, add_run_options, read_inputs
from omnibase.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from omnibase.cli.commands import Invocation, Parser
    from omnibase.cli.report import Asked
    from omnibase.components import ComponentPlan
    from omnibase.core.events import Event, EventBus
    from omnibase.core.sandbox.result import RunResult

__all__ = ["add_arguments", "execute"]

_EPILOG: Final = """\
The component's record says what it requires, and its policy what it gets. If the
policy denies something, nothing starts; `--degrade` runs it without that.

examples:
  omnibase run report
  omnibase run report@^1.2 -- --month 2026-11
  omnibase run report --environment production --allow FILE_READ:/data/extra.csv
  omnibase run report --dry-run
  omnibase run report --degrade --events audit.jsonl --json\
"""


def add_arguments(parser: Parser, _name: str) -> None:
    """Declares the flags."""
    from omnibase.cli.commands import Once
    from omnibase.cli.stores import add_registry_option

    add_run_options(parser, component=True)
    add_registry_option(parser)
    policy = parser.add_argument_group("what the policy is asked")
    policy.add_argument(
        "--environment", action=Once, default="default", metavar="NAME",
        help="where it runs, for policies that ask for it (default: default)",
    )  # fmt: skip
    policy.add_argument(
        "--degrade", action="store_true",
        help="run without what is denied, and say what that was, instead of not at all",
    )  # fmt: skip
    policy.add_argument(
        "--unsandboxed", action="store_true",
        help="run on the host, with your rights: only for a trusted component whose record "
        "and policy both name EXTERNAL_COMMAND:host-python; its limits still hold",
    )  # fmt: skip
    parser.add_argument(
        "--dry-run", action="store_true", help="show the decision and the run, and run nothing"
    )
    parser.epilog = _EPILOG


def execute(invocation: Invocation) -> int:
    """Runs the component and returns its exit code, or ours."""
    options = invocation.options
    inputs = read_inputs(options, invocation.rest, dry=options.dry_run)
    if options.dry_run:
        return _dry_run(options, inputs)
    from omnibase import components
    from omnibase.cli import engine, outputs

    target = outputs.Target(options.artifacts_out)
    how: Callable[..., RunResult] = components.run_component
    terms = _terms(options)
    if options.pool:
        if terms.pop("unsandboxed"):
            raise ConfigurationError(
                "`--pool` and `--unsandboxed` cannot be given together",
                hint="what runs on the host has no sandbox, warm or not",
            )
        how = engine.pool().run_component
    run = partial(how, options.component, **terms, **inputs.keywords())
    with engine.events_to(options) as bus:
        with _warned(bus, options.unsandboxed):
            outcome = engine.perform(run, live=not options.json, bus=bus)
        engine.tell(outcome, inputs.context, json=options.json, asked=asked(options), target=target)
    return outcome.code


def asked(options: Any) -> Asked:
    """Returns the component as it was named, for hints."""
    from omnibase.cli.report import Asked

    return Asked(
        component=options.component, registry=options.registry, environment=options.environment
    )


def _terms(options: Any) -> dict[str, Any]:
    return {
        "registry": options.registry,
        "environment": options.environment,
        "degrade": options.degrade,
        "unsandboxed": options.unsandboxed,
    }


def _warned(bus: EventBus | None, unsandboxed: bool) -> Any:
    """Says on standard error when a run without a sandbox really starts."""
    import contextlib

    from omnibase.core.events import UnsandboxedStart, default_bus

    def warn(event: Event) -> None:
        if isinstance(event.data, UnsandboxedStart):
            prefix = console.colour("yellow", "omnibase: warning:")
            name = console.printable(event.subject or "", 200)
            console.note(f"{prefix} `{name}` runs without a sandbox: nothing it does is confined")

    return (bus or default_bus()).subscribe(warn) if unsandboxed else contextlib.nullcontext()


def _dry_run(options: Any, inputs: Inputs) -> int:
    """Prints the decision and the plan; 120 if the run would be refused by policy."""
    from omnibase import components
    from omnibase.cli import explain, report
    from omnibase.cli.engine import await_image

    await_image()
    with report.errors_as_json(options.json):
        found = components.plan_component(options.component, **_terms(options), **inputs.keywords())
    plan = None if found.plan is None else explain.describe(found.plan)
    if options.json:
        report.print_json({**_describe(found), "plan": plan})
    else:
        _show(found)
        if plan is not None:
            explain.show(plan)
    if found.refused:
        if found.reason is not None:
            console.error(found.reason, "run it in a sandbox: leave out `--unsandboxed`")
        else:
            first = str(found.grants.denied[0].capability)
            console.error(
                "the policy denies what is marked so: nothing would run",
                f"see `{asked(options).command('policy explain', first)}`, or run it without "
                "that: `--degrade`",
            )
        return exits.DENIED
    return exits.OK if plan is None else explain.tell_problems(plan)


def _describe(found: ComponentPlan) -> dict[str, Any]:
    component = found.component
    return {
        "component": {
            "uuid": str(component.uuid),
            "reference": component.reference,
            "trust": component.trust.value,
            "lifecycle": component.lifecycle.value,
            "policy_version": component.policy.version if component.policy else None,
        },
        "unsandboxed": found.unsandboxed,
        "refused": found.refused,
        "reason": found.reason,
        "grants": found.grants.to_dict(),
        "decision": found.grants.decision.to_dict(),
    }


def _show(found: ComponentPlan) -> None:
    from omnibase.cli.explain import rows, section

    component, policy = found.component, found.component.policy
    section("component")
    rows(
        ("name", component.reference),
        ("uuid", str(component.uuid)),
        ("trust", component.trust.value),
        ("lifecycle", component.lifecycle.value),
        ("policy", f"version {policy.version}, sha256 {policy.sha256}" if policy else
         "none: nothing is permitted"),
        ("sandbox", "none: it runs on the host, under its limits alone" if found.unsandboxed else
         "gVisor"),
    )  # fmt: skip
    section("what its policy says to what is asked for")
    verdicts = found.grants.decision.verdicts
    if not verdicts:
        rows(("nothing", "nothing is asked for"))
        return
    rows(*((f"{v.outcome.value:<7}  {v.capability}", v.message) for v in verdicts))
