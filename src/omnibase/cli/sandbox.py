"""``omnibase sandbox run``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from omnibase.cli.options import add_run_options, read_inputs, read_script

if TYPE_CHECKING:
    from omnibase.cli.commands import Invocation, Parser

__all__ = ["add_arguments", "execute"]

_EPILOG: Final = """\
The script's output passes through as it comes. On a terminal, control characters
in it are shown as escapes such as \\x1b; into a pipe or a file it goes unchanged.

examples:
  omnibase sandbox run script.py
  omnibase sandbox run script.py --allow FILE_READ:/data/input.csv -- --verbose input.csv
  omnibase sandbox run script.py --packages requirements.txt --memory 128MiB
  omnibase sandbox run script.py --allow SECRET_ACCESS:API_TOKEN \\
    --allow NETWORK_CONNECT:api.example.com:443
  omnibase sandbox run script.py --capabilities caps.json --memory 128MiB --timeout 5
  echo 'print(6 * 7)' | omnibase sandbox run -
  omnibase sandbox run script.py --stdin - --env MODE=fast < data.txt
  omnibase pool start && omnibase sandbox run script.py --pool
  omnibase sandbox run script.py --on-violation kill --events audit.jsonl --json\
"""


def add_arguments(parser: Parser, _name: str) -> None:
    """Declares the flags."""
    add_run_options(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="as `omnibase sandbox explain`: run nothing"
    )
    parser.epilog = _EPILOG


def execute(invocation: Invocation) -> int:
    """Runs the script and returns its exit code, or ours."""
    options = invocation.options
    if options.dry_run:
        from omnibase.cli import explain

        return explain.execute(invocation)
    inputs = read_inputs(options, invocation.rest)
    script = read_script(options)
    from omnibase import api
    from omnibase.cli import engine, outputs

    target = outputs.Target(options.artifacts_out)
    how = engine.pool().run if options.pool else api.run
    run = engine.with_packages(partial(how, script, **inputs.keywords()), inputs)
    with engine.events_to(options) as bus:
        outcome = engine.perform(run, live=not options.json, bus=bus)
        engine.tell(outcome, inputs.context, json=options.json, target=target)
    return outcome.code
