"""``omnibase capabilities``: check a capability file, print the schema."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from omnibase.cli import console, exits
from omnibase.cli.options import add_secrets_option, secrets_of
from omnibase.cli.outputs import add_store_option

if TYPE_CHECKING:
    from omnibase.cli.commands import Invocation, Parser

__all__ = ["add_arguments", "execute"]

_CHECK_EPILOG: Final = """\
The file is read as strictly as a run reads it. A valid file ends with 0, also if
it holds what this sandbox would refuse: that is listed.

examples:
  omnibase capabilities check caps.json
  omnibase capabilities check caps.json --json\
"""
_SCHEMA_EPILOG: Final = """\
examples:
  omnibase capabilities schema > capabilities.schema.json\
"""


def add_arguments(parser: Parser, name: str) -> None:
    """Declares the flags."""
    if name.endswith("schema"):
        parser.epilog = _SCHEMA_EPILOG
        return
    parser.add_argument("file", metavar="FILE", help="capability file (JSON)")
    add_secrets_option(parser)
    add_store_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.epilog = _CHECK_EPILOG


def execute(invocation: Invocation) -> int:
    """Runs ``check`` or ``schema``."""
    from omnibase.core.security.capability_file import capability_file_schema, load_capabilities

    if invocation.name.endswith("schema"):
        console.out(json.dumps(capability_file_schema(), indent=2) + "\n")
        return exits.OK
    options = invocation.options
    secrets = secrets_of(options)
    capabilities = load_capabilities(options.file)
    from omnibase.cli.enforce import enforcement_of

    rows: list[dict[str, Any]] = []
    for capability in capabilities:
        found = enforcement_of(capability, secrets=secrets, artifacts=options.artifacts)
        rows.append(
            {
                "capability": str(capability),
                "enforced": found.known and found.refusal is None,
                "enforcement": found.how,
                "problem": found.refusal or found.problem,
                "hint": found.hint,
            }
        )
    if options.json:
        console.out(json.dumps({"version": 1, "capabilities": rows}, indent=2) + "\n")
        return exits.OK
    width = min(60, max((len(row["capability"]) for row in rows), default=0))
    for row in rows:
        mark, text = "ok  ", row["enforcement"]
        if not row["enforced"]:
            mark, text = "no  ", row["problem"]
        elif row["problem"] is not None:
            mark, text = "now ", f"{text}; but now {row['problem']}"
        shade = {"ok  ": "green", "no  ": "red", "now ": "yellow"}[mark]
        name = console.printable(row["capability"], 1000)
        console.out(
            f"{console.colour(shade, mark, 1)}  {name:<{width}}  {console.printable(text, 1000)}\n"
        )
    usable = sum(row["problem"] is None for row in rows)
    console.out(f"{len(rows)} capabilities, {usable} of which a run would get here and now\n")
    return exits.OK
