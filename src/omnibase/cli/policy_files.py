"""``omnibase policy validate`` and ``lint``: what is wrong with policies."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from omnibase.cli import exits, report
from omnibase.cli.policy_words import (
    POLICY,
    add_json_option,
    aligned,
    counted,
    first_error,
    note,
    say,
    say_rows,
    tried,
)
from omnibase.errors import ConfigurationError, OmniBaseError

if TYPE_CHECKING:
    from uuid import UUID

    from omnibase.cli.commands import Invocation, Parser
    from omnibase.cli.stores import NamedPolicy
    from omnibase.core.security.policy_lint import LintFinding

__all__ = ["add_arguments", "execute"]

_VALIDATE_EPILOG: Final = """\
A file is Cedar's JSON form (*.json) or Cedar's own syntax (*.cedar). All files are
tried; the exit code is 2 if one is refused or cannot be read.

examples:
  omnibase policy validate report.cedar.json
  omnibase policy validate policies/*.cedar --json
  omnibase policy validate draft.cedar --component 0f8fad5b-d9cb-469f-a165-70867728950e\
"""
_LINT_EPILOG: Final = """\
With a finding, the exit code is 1. What is meant is silenced by an annotation of the
policy: @lint_ignore("OBP002, OBP007"). The codes are in docs/security/policies.md.

examples:
  omnibase policy lint report
  omnibase policy lint policies/*.cedar.json
  omnibase policy lint report@^1.0 draft.cedar --json --registry /srv/registry\
"""


def add_arguments(parser: Parser, name: str) -> None:
    """Declares the flags."""
    from omnibase.cli.commands import Once

    if name.endswith("validate"):
        parser.add_argument("files", nargs="+", metavar="FILE", help="policy file")
        parser.add_argument(
            "--component", action=Once, metavar="UUID",
            help="whose policy each must be (default: as the file's name or its policies say)",
        )  # fmt: skip
        parser.epilog = _VALIDATE_EPILOG
    else:
        from omnibase.cli.stores import add_registry_option

        parser.add_argument("policies", nargs="+", metavar="POLICY", help=POLICY)
        add_registry_option(parser)
        parser.epilog = _LINT_EPILOG
    add_json_option(parser)


def execute(invocation: Invocation) -> int:
    """Runs ``validate`` or ``lint``."""
    run = _validate if invocation.name.endswith("validate") else _lint
    return run(invocation.options)


def _validate(options: Any) -> int:
    from omnibase.cli.stores import read_policy

    principal = None if options.component is None else _uuid(options.component)
    found = [(path, tried(partial(read_policy, path, principal))) for path in options.files]
    if options.json:
        report.print_json({"files": [_file(path, one) for path, one in found]})
    else:
        say_rows(_row(path, one) for path, one in found)
    return first_error(one for _, one in found)


def _uuid(text: str) -> UUID:
    from uuid import UUID

    from omnibase.core.registry.checks import is_uuid

    if not is_uuid(text):
        raise ConfigurationError(
            f"`--component {text[:80]}` is not a uuid",
            hint="write it as `omnibase registry list` does, in lower case",
        )
    return UUID(text)


def _file(path: str, one: NamedPolicy | OmniBaseError) -> dict[str, Any]:
    if isinstance(one, OmniBaseError):
        return {"file": path, "ok": False, "error": one.to_dict()}
    return {"file": path, "ok": True, **one.to_dict(), "error": None}


def _row(path: str, one: NamedPolicy | OmniBaseError) -> tuple[str, ...]:
    if isinstance(one, OmniBaseError):
        return ("no", path, "refused")
    count = counted(len(one.policy.rules), "policy", "policies")
    whose = "names no component" if one.names_nobody else str(one.policy.principal)
    return ("ok", path, count, f"sha256 {one.policy.sha256}", whose)


def _lint(options: Any) -> int:
    from omnibase.cli.stores import named_policies
    from omnibase.core.security.policy_lint import lint

    rows: list[tuple[str, NamedPolicy | OmniBaseError, tuple[LintFinding, ...]]] = []
    for reference in options.policies:
        one = tried(partial(named_policies, options, reference))
        if isinstance(one, OmniBaseError):
            rows.append((reference, one, ()))
        else:
            rows.append((one[0].source, one[0], lint(one[0].policy)))
    count = sum(len(findings) for _, _, findings in rows)
    if options.json:
        listed = [_linted(*row) for row in rows]
        report.print_json({"policies": listed, "findings": count})
    else:
        for line in aligned(cells for row in rows for cells in _lines(*row)):
            say(line)
        say(f"{counted(count, 'finding')} in {counted(len(rows), 'document')}")
    if count:
        code = next(finding.code for _, _, findings in rows for finding in findings)
        note(
            f"{counted(count, 'finding')}: mend the policy, or say that it is meant",
            f'silence a code with the annotation `@lint_ignore("{code}")` of that policy',
        )
    return first_error(one for _, one, _ in rows) or (exits.UNFIT if count else exits.OK)


def _linted(
    source: str, one: NamedPolicy | OmniBaseError, findings: tuple[LintFinding, ...]
) -> dict[str, Any]:
    if isinstance(one, OmniBaseError):
        return {"source": source, "findings": [], "error": one.to_dict()}
    found = [finding.to_dict() for finding in findings]
    return {**one.to_dict(), "findings": found, "error": None}


def _lines(
    source: str, one: NamedPolicy | OmniBaseError, findings: tuple[LintFinding, ...]
) -> list[tuple[str, ...]]:
    if isinstance(one, OmniBaseError):
        return [(source, "refused")]
    if not findings:
        return [(source, "ok")]
    return [(source, finding.code, finding.policy, finding.message) for finding in findings]
