"""``omnibase selftest``: hostile probes on real sandboxes, and what holds on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from omnibase.cli import console, exits
from omnibase.cli.commands import Once
from omnibase.errors import ConfigurationError

if TYPE_CHECKING:
    from omnibase.cli.commands import Invocation, Parser
    from omnibase.selftest import Finding, Report

__all__ = ["add_arguments", "execute"]

_GROUPS: Final = ("sandbox", "policy", "capabilities", "secrets", "egress", "registry", "audit")
_EPILOG: Final = """\
Each probe is hostile code on a sandbox of its own. It has to be refused, the attempt
has to be reported, and the same has to work once it is granted. Probes take about
half a minute, use files below /var/tmp and ports of the loopback, and leave nothing;
nothing of them goes to the audit log. The exit code is 0 if everything holds, else 1.
Ids such as T-EXEC-03 are those of the threat model: docs/security/threat_model.md.

examples:
  omnibase selftest
  omnibase selftest --group egress --group secrets
  omnibase selftest --report selftest.html
  omnibase selftest --json > selftest.json\
"""


def add_arguments(parser: Parser, _name: str) -> None:
    """Declares the flags."""
    parser.add_argument(
        "--group", action="append", choices=_GROUPS, default=[], metavar="GROUP",
        help=f"only these probes (may be repeated): {', '.join(_GROUPS)}",
    )  # fmt: skip
    parser.add_argument("--report", action=Once, metavar="FILE.html", help="write a page as well")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.epilog = _EPILOG


def execute(invocation: Invocation) -> int:
    """Runs the probes; each is shown as soon as it is known."""
    options = invocation.options
    target = None if options.report is None else _target(options.report)
    from omnibase.cli.engine import await_image
    from omnibase.cli.report import errors_as_json, print_json
    from omnibase.selftest import selftest

    with errors_as_json(options.json):
        await_image()
        report = selftest(options.group, on_finding=_quiet if options.json else _show)
    if target is not None:
        _write(target, report)
    if options.json:
        print_json(report.to_dict())
    else:
        _summarise(report, target)
    return exits.OK if report.holds else exits.UNFIT


def _target(name: str) -> Path:
    """Checks where the page goes before the probes are run."""
    path = Path(name)
    if not name or path.is_dir() or not os.path.isdir(path.parent):
        raise ConfigurationError(
            f"no page can be written to `{name[:200]}`",
            hint="name a file in a directory that exists, e.g. `--report selftest.html`",
        )
    return path


def _write(path: Path, report: Report) -> None:
    from omnibase.selftest.page import page

    try:
        path.write_text(page(report), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ConfigurationError(
            f"`{path}` cannot be written: {error.strerror}", hint="name another file"
        ) from error


def _quiet(_finding: Finding) -> None:
    pass


def _show(finding: Finding) -> None:
    shade, mark = ("green", "holds") if finding.holds else ("red", "FAILS")
    probe = finding.probe
    console.out(
        f"{console.colour(shade, mark, 1)}  {probe.group:<12}  {probe.name:<38}  "
        f"{probe.threat:<9}  {finding.seconds:4.1f} s\n"
    )
    for problem in finding.problems:
        console.out(f"       {console.colour('bold', 'but:', 1)} {console.printable(problem)}\n")


def _summarise(report: Report, target: Path | None) -> None:
    machine, total = report.machine, len(report.findings)
    failed = sum(not finding.holds for finding in report.findings)
    console.out(
        f"\nOmniBase {machine.omnibase}, {machine.kernel}, runsc {machine.runsc} "
        f"({machine.platform}), cgroup {machine.cgroup}\n"
    )
    if target is not None:
        console.out(f"the page is in {console.printable(str(target))}\n")
    console.out(
        f"all {total} probes hold on this machine ({report.seconds:.0f} s)\n"
        if report.holds
        else f"{failed} of {total} probes do not hold on this machine: do not run hostile code\n"
    )
