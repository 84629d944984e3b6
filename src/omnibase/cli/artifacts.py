"""``omnibase artifacts``: put inputs into the store, get outputs out of it, check it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from omnibase.cli import console, exits
from omnibase.cli.outputs import add_store_option, describe
from omnibase.errors import ArtifactError, ConfigurationError

if TYPE_CHECKING:
    from omnibase.cli.commands import Invocation, Parser
    from omnibase.core.artifacts.store import Artifact, ArtifactStore

__all__ = ["add_arguments", "execute"]

_EPILOGS: Final = {
    "put": """\
A name that is there gets a further version; none that is there changes.

examples:
  omnibase artifacts put reports/2026-q1.csv q1.csv
  omnibase artifacts put model.bin build/model.bin --artifacts s3://bucket/prefix\
""",
    "list": """\
examples:
  omnibase artifacts list
  omnibase artifacts list plot.png
  omnibase artifacts list --json\
""",
    "get": """\
The bytes are checked before the first of them is written. Scripts made them: look at
what you open them with.

examples:
  omnibase artifacts get plot.png -o plot.png
  omnibase artifacts get reports/2026-q1.csv --version 2 | head\
""",
    "verify": """\
examples:
  omnibase artifacts verify
  omnibase artifacts verify --artifacts s3://bucket/prefix --json\
""",
    "remove": """\
Bytes that no other name has go too.

examples:
  omnibase artifacts remove plot.png\
""",
}


def add_arguments(parser: Parser, name: str) -> None:
    """Declares the flags of one command."""
    from omnibase.cli.commands import Once

    command = name.partition(" ")[2]
    if command == "list":
        parser.add_argument("name", metavar="NAME", nargs="?", help="list its versions")
    elif command != "verify":
        parser.add_argument("name", metavar="NAME", help="e.g. plot.png or reports/2026-q1.csv")
    if command == "put":
        parser.add_argument("file", metavar="FILE", help="its bytes")
    if command == "get":
        parser.add_argument(
            "-o", "--out", action=Once, metavar="FILE",
            help="write to a new file (default: standard output, unless that is a terminal)",
        )  # fmt: skip
        parser.add_argument(
            "--version", action=Once, metavar="N", help="that version (default: the latest)"
        )
    add_store_option(parser)
    if command != "get":
        parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.epilog = _EPILOGS[command]


def execute(invocation: Invocation) -> int:
    """Runs one command and returns its exit code.

    Raises:
        OmniBaseError: What the command ends with; with ``--json`` it has been printed,
            unless it is the command line's.
    """
    from omnibase.cli.report import errors_as_json
    from omnibase.exchange import open_artifacts

    options = invocation.options
    command = invocation.name.partition(" ")[2]
    with errors_as_json(getattr(options, "json", False)):
        store = open_artifacts(options.artifacts)
        if command == "put":
            return _put(store, options.name, options.file, json=options.json)
        if command == "list":
            return _list(store, options.name, json=options.json)
        if command == "get":
            return _get(store, options.name, options.version, options.out)
        if command == "remove":
            return _remove(store, options.name, json=options.json)
        return _verify(store, json=options.json)


def _put(store: ArtifactStore, name: str, path: str, *, json: bool) -> int:
    try:
        # Opening a FIFO must not wait for its writer.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"`{path}` cannot be read: {getattr(error, 'strerror', error)}", hint="check the path"
        ) from None
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ConfigurationError(f"`{path}` is not a regular file", hint="name a file")
        artifact = store.put(name, file)
    _print({"artifact": artifact.to_dict()}, [describe(artifact)], json=json)
    return exits.OK


def _list(store: ArtifactStore, name: str | None, *, json: bool) -> int:
    if name is None:
        found = [store.find(each) for each in store.names()]
        rows = [artifact for artifact in found if artifact is not None]
    else:
        rows = list(store.versions(name))
        if not rows:
            raise _missing(store, name)
    document: dict[str, Any] = {
        "location": store.location,
        "artifacts": [each.to_dict() for each in rows],
    }
    _print(document, [*map(describe, rows), f"{len(rows)} in `{store.location}`"], json=json)
    return exits.OK


def _get(store: ArtifactStore, name: str, version: str | None, out: str | None) -> int:
    artifact = _found(store, name, version)
    if out is None:
        if os.isatty(1):
            raise ConfigurationError(
                "the bytes of an artifact do not go to a terminal: a script may have made them",
                hint=f"`omnibase artifacts get {name} -o FILE`, or a pipe",
            )
        console.write(1, artifact.read_bytes())
        return exits.OK
    try:
        artifact.save(Path(out))
    except OSError as error:
        raise ConfigurationError(
            f"`--out {out}` cannot be written: {error.strerror}",
            hint="name a new file: nothing is written over",
        ) from None
    return exits.OK


def _remove(store: ArtifactStore, name: str, *, json: bool) -> int:
    count = store.remove(name)
    if not count:
        raise _missing(store, name)
    _print({"removed": count}, [f"removed {name}, {_counted(count, 'version')}"], json=json)
    return exits.OK


def _verify(store: ArtifactStore, *, json: bool) -> int:
    findings = list(store.verify())
    rows = [finding.problem for finding in findings]
    document: dict[str, Any] = {
        "location": store.location,
        "findings": [{"name": f.name, "problem": f.problem} for f in findings],
    }
    _print(document, rows or [f"every byte of `{store.location}` is as it was stored"], json=json)
    return exits.UNFIT if findings else exits.OK


def _found(store: ArtifactStore, name: str, version: str | None) -> Artifact:
    number = None
    if version is not None:
        if not version.isascii() or not version.isdigit():
            raise ConfigurationError(
                f"`--version {version[:80]}` is no version", hint="write a whole number"
            )
        number = int(version)
    artifact = store.find(name, number)
    if artifact is None:
        raise _missing(store, name, version)
    return artifact


def _missing(store: ArtifactStore, name: str, version: str | None = None) -> ArtifactError:
    which = "" if version is None else f" in version {version}"
    return ArtifactError(
        f"the artifact `{name}` is not in the store `{store.location}`{which}",
        details={"artifact": name, "reason": "missing"},
        hint="see `omnibase artifacts list`",
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _print(document: dict[str, Any], rows: list[str], *, json: bool) -> None:
    if json:
        from omnibase.cli.report import print_json

        print_json(document)
        return
    for row in rows:
        console.out(console.printable(row, 2000) + "\n")
