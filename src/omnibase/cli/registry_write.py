"""``omnibase registry add``, ``update`` and ``retire``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from omnibase.cli import console, exits
from omnibase.errors import ConfigurationError, OmniBaseError

if TYPE_CHECKING:
    from collections.abc import Callable

    from omnibase.cli.commands import Parser
    from omnibase.core.registry import Component, RegistryStore

__all__ = ["COMMANDS", "add_arguments", "the_one"]

_LISTED: Final = 10


def add_arguments(parser: Parser, command: str) -> None:
    """Declares the flags of a command."""
    from omnibase.cli.commands import Once

    if command == "retire":
        return
    new = command == "add"
    if new:
        parser.add_argument("file", metavar="FILE", nargs="?", help="component file (JSON)")
    record = parser.add_argument_group("what the component is")
    if new:
        record.add_argument("--name", action=Once, metavar="NAME", help="e.g. report-builder")
    record.add_argument("--version", action=Once, metavar="VERSION", help="e.g. 1.0.0 (SemVer)")
    record.add_argument("--owner", action=Once, metavar="OWNER", help="a person or a team")
    record.add_argument("--description", action=Once, metavar="TEXT", help="for people")
    record.add_argument(
        "--lifecycle", action=Once, metavar="draft|active|deprecated|retired",
        help="how far along it is" + (" (default: draft)" if new else "; retired is final"),
    )  # fmt: skip
    record.add_argument(
        "--trust", action=Once, metavar="untrusted|semi_trusted|trusted",
        help="how far its code is trusted" + (" (default: untrusted)" if new else ""),
    )  # fmt: skip
    record.add_argument("--idempotent", action="store_true", help="running it again does no harm")
    if new:
        record.add_argument("--uuid", action=Once, metavar="UUID", help="its uuid (default: new)")
    else:
        record.add_argument("--not-idempotent", action="store_true", help="the opposite")
    asked = parser.add_argument_group("what it asks for; its policy decides")
    asked.add_argument(
        "--require", action="append", default=[], metavar="TYPE:RESOURCE",
        help="one more capability, e.g. FILE_READ:/data/input.csv; may be repeated",
    )  # fmt: skip
    if not new:
        asked.add_argument(
            "--unrequire", action="append", default=[], metavar="TYPE:RESOURCE",
            help="one that it no longer asks for; may be repeated",
        )  # fmt: skip
    asked.add_argument(
        "--capabilities", action=Once, metavar="FILE",
        help="capability file (JSON), in place of what it asked for",
    )  # fmt: skip
    content = parser.add_argument_group("what runs")
    content.add_argument("--script", action=Once, metavar="PATH", help="Python file, its script")
    if new:
        content.add_argument(
            "--policy", action=Once, metavar="FILE", help="its policy, in Cedar's JSON or text form"
        )


def _add(options: Any) -> int:
    from omnibase.cli import registry_input, stores
    from omnibase.core.registry.rehearsal import rehearse

    component, policy = registry_input.new_component(options)
    script = registry_input.read_script(options.script)
    record = _on_record(options)
    done: list[Component] = []

    def steps(store: RegistryStore) -> Component:
        # In this order nothing runs before it is all there.
        done.clear()
        done.append(store.add(component, **record))
        if policy is not None:
            done.append(store.put_policy(component.uuid, policy, expected_version=0, **record))
        if script is not None:
            done.append(store.add_script(component.uuid, script[0], script[1], **record))
        return done[-1]

    with stores.existing(options, or_new=True) as store:
        made = rehearse(store, steps)
        if not options.dry_run:
            made = _taken(steps, store, done)
    _tell_added(made, options, len(script[1]) if script else None)
    return exits.OK


def _update(options: Any) -> int:
    from omnibase.cli import registry_input, stores
    from omnibase.core.registry.rehearsal import rehearse

    script = registry_input.read_script(options.script)
    edits = registry_input.Edits.read(options)
    record = _on_record(options)
    done: list[Component] = []

    with stores.existing(options) as store:
        current = the_one(store, options.component)
        wanted = edits.apply(current)

        def steps(store: RegistryStore) -> Component:
            done.clear()
            done.append(store.update(wanted, **record))
            if script is not None:
                done.append(store.add_script(current.uuid, script[0], script[1], **record))
            return done[-1]

        made = tried = rehearse(store, steps)
        if not options.dry_run and made != current:
            made = _taken(steps, store, done)
    if made.revision_number != tried.revision_number:
        # A script is stored whatever was there; a record is not.
        _note(
            "somebody else changed it at the same time",
            f"see `omnibase registry history {made.uuid}`",
        )
    return _tell_changed(current, made, options)


def _retire(options: Any) -> int:
    from omnibase.cli import stores
    from omnibase.core.registry.rehearsal import rehearse

    record = _on_record(options)
    with stores.existing(options) as store:
        current = the_one(store, options.component)

        def steps(store: RegistryStore) -> Component:
            return store.retire(current.uuid, **record)

        made = rehearse(store, steps)
        if not options.dry_run and made != current:
            made = steps(store)
    return _tell_changed(current, made, options)


COMMANDS: Final = {"add": _add, "update": _update, "retire": _retire}


def _taken(
    steps: Callable[[RegistryStore], Component], store: RegistryStore, done: list[Component]
) -> Component:
    """Takes the steps that were rehearsed; what fails now is told with what was done."""
    done.clear()
    try:
        return steps(store)
    except OmniBaseError as error:
        if not done:
            raise
        last = done[-1]
        raise type(error)(
            f"`{last.reference}` is at revision {last.revision_number}, and what was to follow "
            f"failed: {error.message}",
            details={**error.details, "uuid": str(last.uuid)},
            hint=f"see `omnibase registry show {last.uuid}`, and add what is missing",
        ) from error


def _on_record(options: Any) -> dict[str, str]:
    from omnibase.cli.stores import author_of

    return {"author": author_of(options), "comment": options.comment or ""}


def the_one(store: RegistryStore, reference: str) -> Component:
    """Finds the component that is to change; several that a reference fits are none."""
    from omnibase.core.registry import Constraint, Lifecycle
    from omnibase.core.registry.checks import is_uuid

    component = store.find(reference)
    _, at, text = reference.partition("@")
    constraint = Constraint.parse(text) if at else None
    if is_uuid(reference) or (constraint and constraint.exact):
        return component
    fitting = [
        one
        for one in store.list(name=component.name)
        if one.lifecycle is not Lifecycle.RETIRED
        and (constraint is None or constraint.allows(one.version))
    ]
    if len(fitting) > 1:
        fitting.sort(key=lambda one: one.version, reverse=True)
        names = ", ".join(f"`{one.reference}`" for one in fitting[:_LISTED])
        more = f" and {len(fitting) - _LISTED} more" if len(fitting) > _LISTED else ""
        raise ConfigurationError(
            f"`{reference}` fits {len(fitting)} components", hint=f"choose one: {names}{more}"
        )
    return component


def _tell_added(made: Component, options: Any, size: int | None) -> None:
    from omnibase.cli.explain import rows
    from omnibase.cli.registry_view import describe
    from omnibase.cli.report import print_json

    if options.json:
        document = {
            "uuid": str(made.uuid),
            "reference": made.reference,
            "dry_run": options.dry_run,
            "component": made.to_dict(),
        }
        print_json(document)
        return
    if options.dry_run:
        console.out(f"would add {made.reference}\n")
        rows(*describe(made, size)[:-1])
        return
    console.out(f"{made.uuid}  {made.reference}\n")
    if made.policy is None:
        _note(
            "it has no policy, so nothing that it asks for is granted",
            f"add one: `omnibase policy import {made.uuid} FILE`",
        )
    if made.entrypoint is None:
        _note(
            "it has no script, so it does not run",
            f"add one: `omnibase registry update {made.uuid} --script main.py`",
        )


def _note(text: str, hint: str) -> None:
    console.note(f"{console.colour('yellow', 'omnibase: note:')} {text}")
    console.note(f"{console.colour('bold', 'hint:')} {hint}")


def _tell_changed(before: Component, after: Component, options: Any) -> int:
    from omnibase.cli.registry_view import changes, show_changes
    from omnibase.cli.report import print_json

    found = changes(before, after)
    final = before.lifecycle is not after.lifecycle and after.lifecycle.value == "retired"
    if options.json:
        document = {
            "uuid": str(after.uuid),
            "reference": after.reference,
            "dry_run": options.dry_run,
            "changes": [change._asdict() for change in found],
            "component": after.to_dict(),
        }
        print_json(document)
        return exits.OK
    if not found:
        console.out(f"{before.reference} stays as it is: nothing changed\n")
        return exits.OK
    would = "would change" if options.dry_run else "changed"
    console.out(f"{would} {before.reference}  {before.uuid}\n")
    show_changes(found)
    if final:
        console.out(
            "this is final: a retired component neither runs nor changes, and its name and "
            "version stay taken\n"
        )
    return exits.OK
