"""``omnibase audit verify``, ``key``, ``checkpoint`` and ``index``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from omnibase.cli import console, exits
from omnibase.cli.audit import add_log_option, log_directory
from omnibase.errors import ConfigurationError

if TYPE_CHECKING:
    from omnibase.cli.commands import Invocation, Parser
    from omnibase.core.audit.chain import Head
    from omnibase.core.audit.checker import Keys
    from omnibase.core.audit.verification import Report

__all__ = ["add_arguments", "execute"]

_SHOWN: Final = 50
_RUNS: Final = 5
_VERIFY: Final = """\
It prints the log's head. Keep that where whoever writes the log cannot reach, and
give it to the next `--since`: what is cut off after the latest checkpoint is not
noticed in any other way. Keep the public key there, too.

examples:
  omnibase audit verify
  omnibase audit key > /elsewhere/audit.pub
  omnibase audit verify --public-key /elsewhere/audit.pub --since "$(cat /elsewhere/head)"\
"""


def add_arguments(parser: Parser, name: str) -> None:
    """Declares the flags of one command."""
    from omnibase.cli.commands import Once

    command = name.split(" ")[1]
    if command == "index":
        parser.add_argument("action", choices=("rebuild",), help="from the log alone")
    if command == "key":
        parser.add_argument(
            "--rotate", action="store_true",
            help="sign a last time, naming a new key, which signs from then on",
        )  # fmt: skip
    if command == "verify":
        parser.add_argument(
            "--public-key", action=Once, metavar="FILE",
            help="PEM file of the key that signs (default: those in the log's own directory, "
            "which whoever can change the log can change, too)",
        )  # fmt: skip
        parser.add_argument(
            "--since", action=Once, metavar="SEQ:HASH",
            help="a head that was kept: the log must go on from it, and what came before is "
            "not read again",
        )  # fmt: skip
        parser.epilog = _VERIFY
    add_log_option(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object, nothing else")


def execute(invocation: Invocation) -> int:
    """Runs one command and returns its exit code."""
    options = invocation.options
    directory = log_directory(options)
    try:
        return {"verify": _verify, "key": _key, "checkpoint": _checkpoint, "index": _index}[
            invocation.name.split(" ")[1]
        ](options, directory)
    except OSError as error:
        raise ConfigurationError(
            f"the audit log `{directory}` cannot be used: {error.strerror or error}",
            hint="check who owns it, and that it is a directory",
        ) from None


def _verify(options: Any, directory: Path) -> int:
    from omnibase.core.audit.verification import verify

    report = verify(directory, _keys(options, directory), _head(options.since))
    if options.json:
        from omnibase.cli.report import print_json

        print_json({"audit": str(directory), **report.to_dict()})
    else:
        _show(report, directory)
    return exits.UNFIT if report.findings else exits.OK


def _show(report: Report, directory: Path) -> None:
    for finding in report.findings[:_SHOWN]:
        console.out(
            f"{console.colour('red', 'wrong', 1)}  segment {finding.segment}, byte "
            f"{finding.offset}: {console.printable(finding.message)}\n"
        )
    if len(report.findings) > _SHOWN:
        console.out(f"… and {len(report.findings) - _SHOWN} more; `--json` lists them\n")
    for note in report.notes[:_SHOWN]:
        console.out(
            f"note   segment {note.segment}, byte {note.offset}: "
            f"{console.printable(note.message)}\n"
        )
    for text in _limits(report):
        console.out(f"note   {text}\n")
    where = console.printable(str(directory))
    console.out(
        f"{report.records} records in {report.segments} segments of {where}: {report.events} "
        f"events, {report.torn} torn, {report.lost} lost, {report.checkpoints} checkpoints\n"
    )
    if not report.findings:
        console.out("everything is as it was written\n")
    console.out(f"head {report.head}\n")


def _limits(report: Report) -> list[str]:
    """Says what the reading does not prove."""
    found = []
    after = report.head.seq - report.signed
    if report.unchecked:
        found.append("signatures were not checked: `pip install 'omnibase[audit]'`")
    elif not report.signed:
        found.append("nothing is signed: whoever can write the log can write all of it anew, and "
                     "only a head that was kept elsewhere shows that")  # fmt: skip
    elif report.own_keys:
        found.append("the key is the one in the log's own directory: give yours, `--public-key`")
    if report.signed and after:
        found.append(f"the last {after} records come after the latest checkpoint: that they were "
                     "cut or replaced shows only against a head that was kept")  # fmt: skip
    if report.unended:
        found.append(unended_text(len(report.unended), report.unended[:_RUNS]))
    if report.foreign:
        found.append(f"{report.foreign} checkpoints are by keys before yours; yours covers them")
    return found


def unended_text(count: int, runs: Iterable[str]) -> str:
    """Says which runs have no end, harmless to a terminal."""
    named = ", ".join(console.printable(run, 64) for run in runs)
    what = "1 run has" if count == 1 else f"{count} runs have"
    more = ", …" if count > _RUNS else ""
    return (f"{what} a start and no end (still to come, for `omnibase doctor --clean` to tell, or "
            f"lost): {named}{more}")  # fmt: skip


def _keys(options: Any, directory: Path) -> Keys:
    from omnibase.core.audit import keys
    from omnibase.core.audit.checker import Keys

    if options.public_key is None:
        if not keys.available():
            return Keys(set(), None)
        return Keys(set(keys.known_keys(directory)), keys.signed_by)
    keys.require()
    try:
        key = keys.read_public(Path(options.public_key))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"`--public-key {options.public_key}` is no key: "
            f"{getattr(error, 'strerror', None) or error}",
            hint="name the file that `omnibase audit key` printed",
        ) from None
    return Keys({key}, keys.signed_by, external=True)


def _head(text: str | None) -> Head | None:
    from omnibase.core.audit.chain import Head

    if text is None:
        return None
    try:
        return Head.parse(text.strip().removeprefix("head ").strip())
    except ValueError:
        raise ConfigurationError(
            f"`--since {text[:120]}` is not a head",
            hint="give what `omnibase audit verify` printed as its head, `SEQ:HASH`",
        ) from None


def _key(options: Any, directory: Path) -> int:
    from omnibase.core.audit import AuditLog, keys

    keys.require()
    log = AuditLog(directory)
    try:
        if options.rotate:
            log.checkpoint(rotate_key=True)
        key = log.key()
    finally:
        log.close()
    pem = keys.public_pem(key).decode()
    if options.json:
        from omnibase.cli.report import print_json

        print_json({"audit": str(directory), "key": key, "pem": pem})
    else:
        console.out(pem)
    return exits.OK


def _checkpoint(options: Any, directory: Path) -> int:
    from omnibase.core.audit import AuditLog, keys
    from omnibase.core.audit.verification import snapshot

    keys.require()
    snapshot(directory)  # refuses to make a log where there is none
    log = AuditLog(directory)
    try:
        key, head = log.checkpoint(), log.head
    finally:
        log.close()
    if options.json:
        from omnibase.cli.report import print_json

        print_json({"audit": str(directory), "key": key, "head": str(head)})
    else:
        console.out(f"head {head}\n")
    return exits.OK


def _index(options: Any, directory: Path) -> int:
    from omnibase.core.audit.index import Index

    with Index.rebuild(directory) as index:
        rows = index.rows
    if options.json:
        from omnibase.cli.report import print_json

        print_json({"audit": str(directory), "events": rows})
    else:
        console.out(f"{rows} events are in the index\n")
    return exits.OK
