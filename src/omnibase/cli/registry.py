"""``omnibase registry``: components, their history, and whether they are whole."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from omnibase.cli import console, exits
from omnibase.errors import ConfigurationError, OmniBaseError, RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from omnibase.cli.commands import Invocation, Parser
    from omnibase.core.registry import Component, Head, RegistryStore

__all__ = ["add_arguments", "execute"]

_POSITIONALS: Final = {
    "add": "[FILE] ",
    **dict.fromkeys(("show", "update", "retire", "history"), "COMPONENT "),
}
_COMPONENT: Final = "uuid, name, name@version or name@constraint"
_SHOWN: Final = 20
_KEPT: Final = 1000

_EPILOGS: Final = {
    "add": """\
FILE is strict JSON; its schema is docs/schemas/component.schema.json, and `uuid` may
be left out. Flags go before what it says. The script and the policy are checked
before anything is written. Without a uuid, a policy's principal is taken, else one
is made. Nothing is granted without a policy.

examples:
  omnibase registry add --name report --version 1.0.0 --owner 'data team' --script main.py
  omnibase registry add report.json --script main.py --policy report.cedar
  omnibase registry add report.json --version 2.0.0 --lifecycle active --comment 'new format'
  omnibase registry add report.json --dry-run --json\
""",
    "list": """\
Each row is printed as it is read and verified. What is broken is told on standard
error, does not hide the rest, and sets the exit code.

examples:
  omnibase registry list
  omnibase registry list --name report
  omnibase registry list --owner 'data team' --lifecycle active --json\
""",
    "show": """\
examples:
  omnibase registry show report
  omnibase registry show report@1.0.0 --json
  omnibase registry show 0f8fad5b-d9cb-469f-a165-70867728950e --registry /srv/registry\
""",
    "update": """\
Says what changes, old → new. If somebody else changes the component at the same time,
nothing is written: run it again. The name and the uuid never change.

examples:
  omnibase registry update report --lifecycle active
  omnibase registry update report@1.0.0 --version 1.1.0 --script main.py --comment 'faster'
  omnibase registry update report --require FILE_READ:/data/in.csv --unrequire MEMORY:128MiB
  omnibase registry update report --capabilities caps.json --dry-run\
""",
    "retire": """\
It is final: a retired component neither runs nor changes, and its name and version are
never given to another. Its record, policy and history stay.

examples:
  omnibase registry retire report@1.0.0 --comment 'replaced by 2.0.0'
  omnibase registry retire report@1.0.0 --dry-run\
""",
    "history": """\
examples:
  omnibase registry history report
  omnibase registry history report@1.0.0 --json\
""",
    "verify": """\
Each finding is a file, a code and a sentence; with one, the exit code is 1. Note the
head somewhere that the registry's writers cannot reach, and give it to the next
`--since`: else a whole registry that is set back to an earlier state is not noticed.

examples:
  omnibase registry verify
  omnibase registry verify --since "$(cat head.txt)"
  omnibase registry verify --registry sqlite:////var/lib/omnibase/registry.db --json\
""",
}


def add_arguments(parser: Parser, name: str) -> None:
    """Declares the flags."""
    from omnibase.cli.commands import Once
    from omnibase.cli.stores import add_author_options, add_registry_option

    command = name.partition(" ")[2]
    parser.usage = f"{parser.prog} {_POSITIONALS.get(command, '')}[options]"
    if command in ("show", "update", "retire", "history"):
        parser.add_argument("component", metavar="COMPONENT", help=_COMPONENT)
    add_registry_option(parser)
    if command in ("add", "update", "retire"):
        from omnibase.cli import registry_write

        registry_write.add_arguments(parser, command)
        add_author_options(parser)
        parser.add_argument(
            "--dry-run", action="store_true", help="show what would be written, and write nothing"
        )
    elif command == "list":
        parser.add_argument("--name", action=Once, metavar="NAME", help="only those of this name")
        parser.add_argument(
            "--owner", action=Once, metavar="OWNER", help="only those of this owner"
        )
        parser.add_argument(
            "--lifecycle", action=Once, metavar="draft|active|deprecated|retired",
            help="only those",
        )  # fmt: skip
    elif command == "verify":
        parser.add_argument(
            "--since", action=Once, metavar="ENTRIES:SHA256",
            help="a head that was noted: the log must go on from it",
        )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.epilog = _EPILOGS[command]


def execute(invocation: Invocation) -> int:
    """Runs the command.

    Raises:
        OmniBaseError: What the command ends with; with ``--json`` it has been printed.
    """
    options, command = invocation.options, invocation.name.partition(" ")[2]
    if command in ("add", "update", "retire"):
        from omnibase.cli import registry_write

        run = registry_write.COMMANDS[command]
    else:
        run = _COMMANDS[command]
    try:
        return run(options)
    except OmniBaseError as error:
        told = _told(error)
        if options.json and not isinstance(told, ConfigurationError):
            from omnibase.cli.report import print_json

            print_json({"error": told.to_dict()})
        raise told from None


def _told(error: OmniBaseError) -> OmniBaseError:
    if not isinstance(error, RegistryError):
        return error
    from omnibase.cli.registry_view import in_words

    return in_words(error)


def _list(options: Any) -> int:
    from omnibase.cli.stores import existing
    from omnibase.core.registry import Lifecycle

    wanted = None
    if options.lifecycle is not None:
        try:
            wanted = Lifecycle(options.lifecycle)
        except ValueError:
            raise ConfigurationError(
                f"`--lifecycle {options.lifecycle[:80]}` is not one that is known",
                hint="write one of " + ", ".join(f"`{one}`" for one in Lifecycle),
            ) from None
    errors: list[OmniBaseError] = []
    count = 0

    def told(error: OmniBaseError) -> None:
        nonlocal count
        count += 1
        if count <= _KEPT:
            errors.append(error)
        if count <= _SHOWN:
            console.report(error)

    with existing(options) as store:
        found = (
            component
            for component in _readable(store, options.name, told)
            if options.owner in (None, component.owner) and wanted in (None, component.lifecycle)
        )
        if options.json:
            _list_json(found, errors)
        else:
            _list_table(found)
    if count > _SHOWN:
        console.error(f"{count - _SHOWN} more like it", "see `omnibase registry verify`")
    return exits.for_error(errors[0]) if errors else exits.OK


def _readable(
    store: RegistryStore, name: str | None, told: Callable[[OmniBaseError], None]
) -> Iterator[Component]:
    """Yields each component that can be read, and tells of each that cannot."""
    try:
        for uuid in store.uuids(name):
            try:
                yield store.get(uuid)
            except OmniBaseError as error:
                told(error)
                one = "file" in error.details
                if not one and error.details.get("reason") in ("busy", "unavailable"):
                    return  # so are all others
    except OmniBaseError as error:
        told(_told(error))


def _list_table(found: Iterator[Component]) -> None:
    from omnibase.cli.registry_view import header, row

    for number, component in enumerate(found):
        console.out((f"{header()}\n" if number == 0 else "") + f"{row(component)}\n")


def _list_json(found: Iterator[Component], errors: list[OmniBaseError]) -> None:
    console.out('{"components": [')
    separator = "\n"
    for component in found:
        console.out(separator + json.dumps(component.to_dict(), ensure_ascii=True))
        separator = ",\n"
    listed = json.dumps([error.to_dict() for error in errors], indent=2, ensure_ascii=True)
    console.out(f'\n], "errors": {listed}}}\n')


def _show(options: Any) -> int:
    from omnibase.cli.explain import rows
    from omnibase.cli.registry_view import describe, script_of
    from omnibase.cli.report import print_json
    from omnibase.cli.stores import existing

    problems: list[OmniBaseError] = []
    size = None
    with existing(options) as store:
        component = store.find(options.component)
        try:
            if component.policy is not None:
                store.get_policy(component.uuid)
        except OmniBaseError as error:
            problems.append(error)
        try:
            if component.entrypoint is not None:
                size = len(store.load_entrypoint(component))
        except OmniBaseError as error:
            problems.append(error)
    if options.json:
        script = script_of(component)
        print_json(
            {
                "reference": component.reference,
                "component": component.to_dict(),
                "script": script and {**script, "bytes": size},
                "errors": [problem.to_dict() for problem in problems],
            }
        )
    else:
        console.out(f"{console.printable(component.reference)}\n")
        rows(*describe(component, size))
    for problem in problems:
        console.report(problem)
    return exits.for_error(problems[0]) if problems else exits.OK


def _history(options: Any) -> int:
    from omnibase.cli.registry_view import changes, show_changes, stamp
    from omnibase.cli.report import print_json
    from omnibase.cli.stores import existing

    with existing(options) as store:
        component = store.find(options.component)
        revisions = store.history(component.uuid)
    found = [()] + [changes(old, new) for old, new in pairwise(revisions)]
    if options.json:
        listed = [
            {**one.to_dict()["revision"], "changes": [change._asdict() for change in changed]}
            for one, changed in zip(revisions, found, strict=True)
        ]
        print_json(
            {
                "uuid": str(component.uuid),
                "reference": component.reference,
                "revisions": listed,
            }
        )
        return exits.OK
    console.out(f"{console.printable(component.reference)}  {component.uuid}\n")
    for one, changed in zip(revisions, found, strict=True):
        console.out(f"  {console.printable(stamp(one), 2000)}\n")
        show_changes(changed, "      ")
    return exits.OK


def _verify(options: Any) -> int:
    from omnibase.cli.report import print_json
    from omnibase.cli.stores import existing

    since = _head(options.since) if options.since is not None else None
    with existing(options) as store:
        try:
            # Before the check, so that all that it stands for has been checked.
            head = store.head()
        except OmniBaseError as error:
            if error.details.get("reason") != "tampered":
                raise
            head = None
        findings = store.verify(since=since)
    noted = f"{head.entries}:{head.sha256}" if head else None
    if options.json:
        print_json(
            {
                "findings": [finding.to_dict() for finding in findings],
                "head": head and head._asdict(),
                "since": noted,
            }
        )
    for finding in findings if not options.json else ():
        file, message = console.printable(finding.file), console.printable(finding.message, 2000)
        console.out(f"{finding.code:<12} {file}  {message}\n")
    if findings:
        count = "1 finding" if len(findings) == 1 else f"{len(findings)} findings"
        console.error(
            f"{count}: the registry is not as it was written", _remedy({f.code for f in findings})
        )
        return exits.UNFIT
    if not options.json:
        console.out(f"everything is as the registry wrote it\nhead {noted}\n")
    return exits.OK


def _remedy(codes: Collection[str]) -> str:
    if set(codes) == {"permissions"}:
        return "if nobody else could have written: `chmod -R go-w` the registry, then verify again"
    return "restore the files from a backup, then verify again"


def _head(text: str) -> Head:
    from omnibase.core.registry import Head

    match = re.fullmatch(r"([0-9]{1,10}):([0-9a-f]{64})", text)
    if match is None:
        raise ConfigurationError(
            f"`--since {text[:120]}` is not a head",
            hint="write what `omnibase registry verify` printed: `ENTRIES:SHA256`",
        )
    return Head(int(match[1]), match[2])


_COMMANDS: Final = {"list": _list, "show": _show, "history": _history, "verify": _verify}
