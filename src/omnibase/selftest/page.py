"""A report as one HTML page: no script, nothing from elsewhere, every text escaped."""

from __future__ import annotations

from dataclasses import asdict
from html import escape
from itertools import groupby
from typing import Final

from omnibase.selftest.model import Finding, Report, described

__all__ = ["page"]

# Also what a browser holds to, should an escape be missing.
_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
_STYLE: Final = """
:root { color-scheme: light dark; --good: #1a7f37; --bad: #cf222e; --soft: #6e7781;
        --line: #d0d7de; --back: #f6f8fa; }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --bad: #f85149; --soft: #8b949e;
        --line: #30363d; --back: #161b22; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .25rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.verdict { font-size: 1.2rem; font-weight: 600; }
.good { color: var(--good); } .bad { color: var(--bad); } .soft { color: var(--soft); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem;
         border-bottom: 1px solid var(--line); }
th { background: var(--back); font-weight: 600; white-space: nowrap; }
td.mark { white-space: nowrap; text-align: center; }
td { overflow-wrap: anywhere; }
code { font: 13px/1.4 ui-monospace, monospace; }
.problem { color: var(--bad); margin: .3rem 0 0; }
p { margin: .2rem 0; }
"""


def page(report: Report) -> str:
    """Returns the page."""
    failed = [finding for finding in report.findings if not finding.holds]
    total = len(report.findings)
    verdict = (
        f'<p class="verdict good">✓ all {total} probes hold on this machine</p>'
        if report.holds
        else f'<p class="verdict bad">✗ {len(failed)} of {total} probes do not hold '
        "on this machine</p>"
    )
    machine = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
        for name, value in asdict(report.machine).items()
    )
    groups = "".join(
        f"<h2>{escape(group)}</h2>{_table(list(findings))}"
        for group, findings in groupby(report.findings, key=lambda found: found.probe.group)
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>OmniBase self-test</title><style>{_STYLE}</style></head><body>"
        f"<h1>OmniBase self-test</h1>{verdict}"
        f'<p class="soft">{escape(report.began)}, {report.seconds:.0f} s. Each probe is hostile '
        "code on a real sandbox: it has to be refused, the attempt has to be on record, and the "
        "same has to work once it is granted. The ids are those of the threat model.</p>"
        f"<dl>{machine}</dl>{groups}</body></html>\n"
    )


def _table(findings: list[Finding]) -> str:
    rows = "".join(_row(finding) for finding in findings)
    return (
        "<table><thead><tr><th>probe</th><th>what it does, and what is expected</th>"
        "<th>refused</th><th>reported</th><th>granted</th><th>threat</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )


def _row(finding: Finding) -> str:
    said, sides = described(finding.probe.description), finding.sides
    problems = "".join(f'<p class="problem">{escape(text)}</p>' for text in finding.problems)
    seen = ", ".join(f"<code>{escape(text)}</code>" for text in sides.seen)
    on_record = f'<p class="soft">on record: {seen}</p>' if seen else ""
    return (
        f"<tr><td>{escape(finding.probe.name)}</td>"
        f"<td><p>{_prose(said['what'])}</p>"
        f'<p class="soft">Expected: {_prose(said["expected"])}<br>'
        f"Granted: {_prose(said['granted'])}</p>"
        f"{on_record}{problems}</td>"
        f"{_mark(sides.refused)}{_mark(sides.reported, silent=sides.silent)}{_mark(sides.granted)}"
        f'<td class="mark"><code>{escape(finding.probe.threat)}</code></td></tr>'
    )


def _prose(text: str) -> str:
    """Escapes a text of ours; what is between backticks is code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if at % 2 else part for at, part in enumerate(parts))


def _mark(problem: str | None, *, silent: bool = False) -> str:
    if problem is not None:
        return '<td class="mark bad">✗ no</td>'
    if silent:
        return '<td class="mark soft">–</td>'
    return '<td class="mark good">✓ yes</td>'
