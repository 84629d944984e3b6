"""``omnibase packages``: lock, install and list what runs may import."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from omnibase.cli import console, exits, report
from omnibase.errors import ConfigurationError

if TYPE_CHECKING:
    from omnibase.cli.commands import Invocation, Parser
    from omnibase.packages import PackageLayer

__all__ = ["add_arguments", "execute"]

_EPILOGS: Final = {
    "lock": """\
The lock is itself a requirements file: every package with its version and hash.

examples:
  omnibase packages lock requirements.txt -o requirements.lock
  omnibase sandbox run script.py --packages requirements.lock --require-hashes\
""",
    "install": """\
What a run would fetch first is fetched now. Packages come from the index that pip
is configured to use, in a sandbox that reaches nothing else.

examples:
  omnibase packages install requirements.txt
  omnibase packages install requirements.lock --require-hashes --json\
""",
    "list": """\
examples:
  omnibase packages list
  omnibase packages list --json\
""",
}


def add_arguments(parser: Parser, name: str) -> None:
    """Declares the flags."""
    from omnibase.cli.commands import Once

    command = name.partition(" ")[2]
    parser.epilog = _EPILOGS[command]
    if command != "list":
        parser.add_argument("requirements", metavar="FILE", help="requirements file, or a lock")
        parser.add_argument(
            "--require-hashes", action="store_true",
            help="refuse requirements that do not name each file's hash",
        )  # fmt: skip
        parser.add_argument(
            "--upgrade", action="store_true", help="resolve anew, whatever is there already"
        )
        parser.add_argument(
            "--events", action=Once, metavar="FILE", help="append the events to a JSONL file"
        )
    if command == "lock":
        parser.add_argument(
            "-o", "--out", action=Once, metavar="FILE", help="write it there (default: print it)"
        )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def execute(invocation: Invocation) -> int:
    """Runs ``lock``, ``install`` or ``list``."""
    options = invocation.options
    command = invocation.name.partition(" ")[2]
    if command == "list":
        return _list(as_json=options.json)
    if command == "lock" and options.out == "":
        raise ConfigurationError("`--out` is empty", hint="name a file")
    from omnibase.cli import engine

    with engine.events_to(options) as bus, report.errors_as_json(options.json):
        engine.await_image()
        layer = engine.install(
            options.requirements, bus=bus, upgrade=options.upgrade,
            require_hashes=options.require_hashes,
        )  # fmt: skip
    if command == "lock" and options.out is not None:
        _write(options.out, layer.lock.to_text())
    if options.json:
        report.print_json({**layer.to_dict(), "lock": layer.lock.to_text()})
    elif command == "install":
        _show(layer)
    elif options.out is None:
        console.out(layer.lock.to_text())
    return exits.OK


def _write(path: str, text: str) -> None:
    """Writes a file that appears whole or not at all."""
    draft = f"{path}.{os.getpid()}.tmp"
    try:
        with open(draft, "x", encoding="ascii") as file:
            file.write(text)
        os.replace(draft, path)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"`--out {path}` cannot be written: {getattr(error, 'strerror', error)}",
            hint="name a file in a directory that is there",
        ) from None


def _list(*, as_json: bool) -> int:
    from omnibase.backend import require_root
    from omnibase.packages import cache

    require_root()
    layers = cache().layers()
    if as_json:
        report.print_json({"layers": [layer.to_dict() for layer in layers]})
        return exits.OK
    for layer in layers:
        _show(layer)
    if not layers:
        console.out("no packages are installed\n")
    return exits.OK


def _show(layer: PackageLayer) -> None:
    packages = [f"{package.name}=={package.version}" for package in layer.lock.packages]
    console.out(f"{layer.digest}  {layer.files} files, {console.size(layer.size)}\n")
    for package in packages:
        console.out(f"  {console.printable(package, 200)}\n")
