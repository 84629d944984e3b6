"""``omnibase policy test``: the tables of cases beside policies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

from omnibase.cli import console, exits, report
from omnibase.cli.policy_words import (
    POLICY,
    add_json_option,
    counted,
    first_error,
    note,
    say,
    say_rows,
    tried,
)
from omnibase.errors import ConfigurationError, OmniBaseError

if TYPE_CHECKING:
    from omnibase.cli.commands import Invocation, Parser
    from omnibase.cli.stores import NamedPolicy
    from omnibase.core.security.policy_table import CaseResult

__all__ = ["add_arguments", "execute"]

MAX_FILES: Final = 10_000

_TABLE: Final = ".tests.json"
_POLICIES: Final = (".cedar.json", ".cedar")
_EPILOG: Final = """\
A table stands beside its policy: x.tests.json for x.cedar.json or x.cedar. Name one
of the two, or a directory: all pairs in it are run, those of its subdirectories too.
A policy without a table is an error, and so is a table without a policy or a case.
If a case fails, the exit code is 1. The format is in docs/security/policies.md.

examples:
  omnibase policy test policies/
  omnibase policy test report.cedar.json
  omnibase policy test report.tests.json --policy report@^1.0 --registry /srv/registry\
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """A table, and the policy that it is run against; one that is missing is the fault."""

    policy: str | None
    table: str | None

    @property
    def name(self) -> str:
        return self.policy or self.table or ""


def add_arguments(parser: Parser, _name: str) -> None:
    """Declares the flags."""
    from omnibase.cli.commands import Once
    from omnibase.cli.stores import add_registry_option

    parser.add_argument(
        "paths", nargs="+", metavar="FILE|DIRECTORY", help="policy, table, or directory of both"
    )
    parser.add_argument(
        "--policy", action=Once, metavar="POLICY",
        help=f"run the tables against this one: {POLICY}",
    )  # fmt: skip
    add_registry_option(parser)
    add_json_option(parser)
    parser.epilog = _EPILOG


def execute(invocation: Invocation) -> int:
    """Runs the tables; 1 if a case fails, and the error's code if a table cannot be run."""
    from omnibase.cli.stores import named_policies

    options = invocation.options
    other = (
        None if options.policy is None else named_policies(options, options.policy, or_none=True)[0]
    )
    found: list[tuple[_Pair, tuple[CaseResult, ...] | OmniBaseError]] = []
    for path in options.paths:
        pairs = tried(partial(_pairs, path, other is not None))
        if isinstance(pairs, OmniBaseError):
            found.append((_Pair(policy=None, table=path), pairs))
        else:
            found += [(pair, tried(partial(_run, pair, other))) for pair in pairs]
    cases = [case for _, results in found if isinstance(results, tuple) for case in results]
    failed = sum(not case.passed for case in cases)
    errors = sum(isinstance(results, OmniBaseError) for _, results in found)
    if options.json:
        report.print_json(
            {
                "policy": None if other is None else other.to_dict(),
                "tables": [_to_dict(pair, results) for pair, results in found],
                "passed": len(cases) - failed,
                "failed": failed,
                "errors": errors,
            }
        )
    else:
        _show(found)
        broken = f", {counted(errors, 'error')}" if errors else ""
        say(f"{counted(len(cases), 'case')}, {failed} failed{broken}")
    return first_error(results for _, results in found) or (exits.UNFIT if failed else exits.OK)


def _run(pair: _Pair, other: NamedPolicy | None) -> tuple[CaseResult, ...]:
    from omnibase.cli.stores import read_file, read_policy
    from omnibase.core.security.policy_table import MAX_TABLE_BYTES, run_table

    if pair.table is None:
        stem = _stem(pair.policy or "")
        _missing(
            f"`{pair.policy}` has no table", f"write the cases that it must meet: `{stem}{_TABLE}`"
        )
    if other is None and pair.policy is None:
        stem = _stem(pair.table)
        _missing(
            f"`{pair.table}` has no policy: `{stem}.cedar.json` is missing, or `{stem}.cedar`",
            "put it beside the table, or name another: `--policy POLICY`",
        )
    policy = other or read_policy(pair.policy or "")
    table = read_file(pair.table, MAX_TABLE_BYTES, "a table of cases")
    results = run_table(policy.policy, table, pair.table)
    if not results:
        _missing(f"`{pair.table}` has no cases", "a table without a case tests nothing: add one")
    return results


def _missing(message: str, hint: str) -> NoReturn:
    raise ConfigurationError(message, hint=hint)


def _pairs(path: str, of_other: bool) -> list[_Pair]:
    """Returns what a path stands for.

    Args:
        path: A policy, a table or a directory.
        of_other: The tables are run against another policy: each counts once, and
            a policy needs none.
    """
    if os.path.isdir(path):
        names = _files(path)
        stems = dict.fromkeys(_stem(name) for name in names)
        known = set(names)
    else:
        if not path.endswith((_TABLE, *_POLICIES)):
            _missing(
                f"`{path}` is neither a policy nor a table",
                f"name a directory, or a file that ends in `{_TABLE}`, `.cedar.json` or `.cedar`",
            )
        if not os.path.lexists(path):
            _missing(f"`{path}` is not there", "name a policy, its table, or a directory of both")
        stem = _stem(path)
        # Of two policies with one table, the one that is named.
        beside = [stem + ending for ending in _POLICIES] if path.endswith(_TABLE) else [path]
        stems = {stem: None}
        known = {name for name in (stem + _TABLE, *beside) if os.path.lexists(name)}
    found = [pair for stem in stems for pair in _paired(stem, known, of_other)]
    if not found:
        _missing(
            f"`{path}` has no table of cases",
            f"put `x{_TABLE}` beside `x.cedar.json`; see docs/security/policies.md",
        )
    return found


def _paired(stem: str, known: set[str], of_other: bool) -> Iterator[_Pair]:
    table = stem + _TABLE if stem + _TABLE in known else None
    policies: list[str | None] = [stem + one for one in _POLICIES if stem + one in known]
    if of_other:
        if table is not None:
            yield _Pair(policy=None, table=table)
        return
    for policy in policies or [None]:
        yield _Pair(policy=policy, table=table)


def _files(directory: str) -> list[str]:
    """Returns the policies and tables in a directory and below, in order."""

    def refuse(error: OSError) -> NoReturn:
        reason = (error.strerror or str(error)).lower()
        _missing(f"`{error.filename}` cannot be read: {reason}", "name what can be read")

    found: list[str] = []
    for place, inside, names in os.walk(directory, onerror=refuse):
        inside.sort()
        if "components" in inside and "log" in names:
            note(f"`{place}` is a registry, and not looked into", "test its policies by `--policy`")
            inside.clear()
            continue
        for name in inside:
            path = os.path.join(place, name)
            if os.path.islink(path):
                note(f"`{path}` is a link, and not looked into", "name it by itself")
        found += [os.path.join(place, n) for n in sorted(names) if n.endswith((_TABLE, *_POLICIES))]
        if len(found) > MAX_FILES:
            _missing(f"`{directory}` has more than {MAX_FILES} files", "name the parts one by one")
    return found


def _stem(path: str) -> str:
    endings = (_TABLE, *_POLICIES)
    return next((path.removesuffix(one) for one in endings if path.endswith(one)), path)


def _to_dict(pair: _Pair, results: tuple[CaseResult, ...] | OmniBaseError) -> dict[str, Any]:
    error = results if isinstance(results, OmniBaseError) else None
    return {
        "policy": pair.policy,
        "table": pair.table,
        "cases": [case.to_dict() for case in results] if isinstance(results, tuple) else [],
        "error": error.to_dict() if error else None,
    }


def _show(found: list[tuple[_Pair, tuple[CaseResult, ...] | OmniBaseError]]) -> None:
    rows = []
    for pair, results in found:
        if isinstance(results, OmniBaseError):
            rows.append(("no", pair.name, "could not be run"))
            continue
        failed = [case for case in results if not case.passed]
        rows.append(
            ("failed" if failed else "ok", pair.name,
             counted(len(results), "case") + (f", {len(failed)} failed" if failed else ""))
        )  # fmt: skip
    say_rows(rows)
    for pair, results in found:
        for case in results if isinstance(results, tuple) else ():
            if not case.passed:
                name = console.printable(f"{pair.table}: {case.name}", 500)
                say(f"{console.colour('red', 'failed', 1)} {name}")
                say(f"  {console.printable(case.message, 2000)}")
