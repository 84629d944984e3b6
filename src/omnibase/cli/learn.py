"""``omnibase sandbox learn``: run denied, and write what was tried."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from omnibase.cli import console, exits
from omnibase.cli.options import add_run_options, read_inputs, read_script
from omnibase.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from omnibase.cli.commands import Invocation, Parser
    from omnibase.cli.enforce import Enforcement
    from omnibase.cli.engine import Outcome
    from omnibase.cli.options import Inputs
    from omnibase.core.sandbox.monitor.violations import Violation
    from omnibase.core.security.capabilities import Capability, CapabilitySet

__all__ = ["Learnt", "Lesson", "add_arguments", "execute", "proposals", "smallest", "study"]

_MAX_ROUNDS: Final = 20
_SIBLINGS: Final = 3

_EPILOG: Final = """\
The script runs with what --capabilities and --allow give it and nothing more. The
file gets those grants and what it tried besides: each path and endpoint by itself,
never a pattern that reaches further. Read it before you use it: it says what the
script wanted, not what it should have.

Many scripts stop at the first denial. --rounds N with --grant-while-learning runs
it again with the files that it tried to read, up to N times. The risk: then it does
read them, so whatever it prints, and whatever it does next, may depend on a file
that nobody has agreed to. Only reading is ever granted so, never writing, network
or commands. Use it for a script that you trust with the files it may name.

examples:
  omnibase sandbox learn script.py -o caps.json
  omnibase sandbox learn script.py -o caps.json --generalise -- input.csv
  omnibase sandbox learn script.py -o caps.json --force --rounds 5 --grant-while-learning
  omnibase sandbox run script.py --capabilities caps.json\
"""


@dataclass(slots=True)
class Learnt:
    """A capability that the script would have needed.

    Attributes:
        capability: The smallest that covers the attempts.
        count: How often it was tried.
        places: ``operation by process (errno)``, each once.
    """

    capability: Capability
    count: int = 0
    places: list[str] = field(default_factory=list)

    @property
    def reason(self) -> str:
        """What the file says about it."""
        from omnibase.cli.report import times

        more = f" and {len(self.places) - 3} other ways" if len(self.places) > 3 else ""
        return f"tried {times(self.count)}: {', '.join(self.places[:3])}{more}"


@dataclass(slots=True)
class Lesson:
    """What one run or several taught."""

    learnt: dict[Capability, Learnt] = field(default_factory=dict)
    never: list[tuple[Violation, str]] = field(default_factory=list)


def add_arguments(parser: Parser, _name: str) -> None:
    """Declares the flags."""
    from omnibase.cli.commands import Once

    add_run_options(parser)
    group = parser.add_argument_group("what is learnt")
    group.add_argument(
        "-o", "--out", action=Once, required=True, metavar="FILE", help="capability file to write"
    )
    group.add_argument("--force", action="store_true", help="overwrite FILE")
    group.add_argument(
        "--generalise", action="store_true",
        help="propose patterns for what lies together, on standard error; the file has none",
    )  # fmt: skip
    group.add_argument(
        "--usable-only", action="store_true",
        help="leave out what a run would be refused for: what this sandbox cannot grant yet, "
        "and files that are not there",
    )  # fmt: skip
    group.add_argument(
        "--rounds", action=Once, default="1", metavar="N",
        help="run up to N times (default: 1); needs --grant-while-learning",
    )  # fmt: skip
    group.add_argument(
        "--grant-while-learning", action="store_true",
        help="from the second round on, let it read the files that it tried to read: see below",
    )  # fmt: skip
    parser.add_argument(
        "--dry-run", action="store_true",
        help="as `omnibase sandbox explain`: run nothing and write nothing",
    )  # fmt: skip
    parser.epilog = _EPILOG


def execute(invocation: Invocation) -> int:
    """Runs the script, writes the file, says what is in it."""
    options = invocation.options
    rounds = _rounds(options)
    target = _check_target(options.out, options.force)
    if options.dry_run:
        from omnibase.cli import explain

        return explain.execute(invocation)
    inputs = read_inputs(options, invocation.rest)
    script = read_script(options)
    inputs = replace(inputs, context=replace(inputs.context, on_violation="record"))
    from omnibase import api
    from omnibase.cli import engine, report

    with engine.events_to(options) as bus:
        lesson, given = Lesson(), inputs.capabilities
        for number in range(1, rounds + 1):
            if number > 1 and not options.json:
                console.note(console.colour("dim", f"omnibase: round {number}"))
            run = partial(api.run, script, **inputs.keywords())
            outcome = engine.perform(run, live=not options.json, bus=bus)
            if outcome.result is None:
                report.summarise(outcome, inputs.context)
                if options.json:
                    report.print_json(outcome.to_dict())
                return outcome.code
            before = set(lesson.learnt)
            study(outcome.result.violations, given, lesson)
            more = _readable(set(lesson.learnt) - before)
            if not more:
                break
            inputs = replace(inputs, capabilities=inputs.capabilities.union(more))
        code = _conclude(options, target, given, lesson, outcome, inputs, number)
    return code


def study(violations: Iterable[Violation], given: CapabilitySet, lesson: Lesson) -> None:
    """Adds to a lesson what the violations of one run would have needed. Pure.

    Counts of several runs are not added up: the highest stands.
    """
    from omnibase.cli.enforce import needed, ungrantable

    seen: dict[Capability, Learnt] = {}
    for violation in violations:
        capability = needed(violation)
        if capability is None or violation.reason is not None or given.covers(capability):
            why = violation.reason or ungrantable(violation)
            key = (violation.operation, violation.resource)
            if key not in {(v.operation, v.resource) for v, _ in lesson.never}:
                lesson.never.append((violation, why))
            continue
        row = seen.setdefault(capability, Learnt(capability))
        row.count += violation.count
        who = f" by {console.printable(violation.process_name, 40)}" * bool(violation.process_name)
        place = f"{violation.operation}{who}" + f" ({violation.errno_name})" * bool(violation.errno)
        if place not in row.places:
            row.places.append(place)
    for capability, row in seen.items():
        known = lesson.learnt.get(capability)
        if known is None or known.count < row.count:
            lesson.learnt[capability] = row


def smallest(learnt: dict[Capability, Learnt]) -> dict[Capability, Learnt]:
    """Drops what another one implies: what can be written can be read. Pure."""
    kept = {
        capability: replace(row, places=list(row.places))
        for capability, row in learnt.items()
        if not any(c != capability and c.covers(capability) for c in learnt)
    }
    for capability, row in learnt.items():
        if capability not in kept:
            wider = next(c for c in kept if c.covers(capability))
            kept[wider].count += row.count
            kept[wider].places += [place for place in row.places if place not in kept[wider].places]
    return kept


def proposals(capabilities: Iterable[Capability]) -> dict[Capability, list[Capability]]:
    """Returns patterns that could stand for several capabilities each. Pure.

    At least three files of one directory give ``/d/*.csv`` if they share an ending,
    else ``/d/*``; at least three below one directory in several of its
    subdirectories give ``/d/**``. Nothing is proposed for ``/`` itself.
    """
    from omnibase.core.security.capabilities import Capability as Token

    groups: dict[tuple[Any, str], list[Capability]] = {}
    for capability in capabilities:
        if capability.type.value.startswith("FILE_") and capability.pattern.is_literal:
            parent = os.path.dirname(capability.resource)
            groups.setdefault((capability.type, parent), []).append(capability)
    found: dict[Capability, list[Capability]] = {}
    below: dict[tuple[Any, str], list[list[Capability]]] = {}
    for (kind, parent), members in groups.items():
        if parent != "/" and len(members) >= _SIBLINGS:
            endings = {os.path.splitext(member.resource)[1] for member in members}
            ending = endings.pop() if len(endings) == 1 else ""
            found[Token(kind, f"{parent}/*{ending}")] = members
        if parent != "/":
            below.setdefault((kind, os.path.dirname(parent)), []).append(members)
    for (kind, top), parts in below.items():
        inside = [member for members in parts for member in members]
        if top != "/" and len(parts) > 1 and len(inside) >= _SIBLINGS:
            found[Token(kind, f"{top}/**")] = inside
    return found


def _rounds(options: Any) -> int:
    text = options.rounds
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= _MAX_ROUNDS:
        raise ConfigurationError(
            f"`--rounds {text[:80]}` is not a number of rounds", hint=f"choose 1 to {_MAX_ROUNDS}"
        )
    if int(text) > 1 and not options.grant_while_learning:
        raise ConfigurationError(
            "`--rounds` needs `--grant-while-learning`: without new grants every round is the same",
            hint="read about the risk in `omnibase sandbox learn --help`",
        )
    return int(text)


def _readable(capabilities: set[Capability]) -> list[Capability]:
    from omnibase.cli.enforce import enforcement_of

    return [
        capability
        for capability in sorted(capabilities)
        if capability.type.value == "FILE_READ" and enforcement_of(capability).usable
    ]


def _conclude(
    options: Any,
    target: str,
    given: CapabilitySet,
    lesson: Lesson,
    outcome: Outcome,
    inputs: Inputs,
    rounds: int,
) -> int:
    from omnibase.cli import report
    from omnibase.cli.enforce import enforcement_of, port_unknown

    lesson.learnt = smallest(lesson.learnt)
    found = {c: enforcement_of(c, inputs.context) for c in sorted(lesson.learnt)}
    # What no grant may reach, whatever it says, is not worth a line in the file.
    guessed = {c: example for c in found if (example := port_unknown(c))}
    refused = {
        c: e for c, e in found.items() if e.known and e.refusal is not None and c not in guessed
    }
    kept = [c for c in found if c not in refused and c not in guessed]
    if options.usable_only:
        kept = [c for c in kept if found[c].usable]
    items = [{"capability": str(c), "reason": "given"} for c in given]
    items += [{"capability": str(c), "reason": lesson.learnt[c].reason} for c in kept]
    _write(target, {"version": 1, "capabilities": items}, options.force)
    proposed = proposals([*given, *kept]) if options.generalise else {}
    result = outcome.result
    complete = result is not None and not result.trace_dropped
    if options.json:
        report.print_json(
            {
                **outcome.to_dict(),  # whose own `proposed` is another, and empty here
                "file": options.out,
                "rounds": rounds,
                "complete": complete,
                "given": [str(c) for c in given],
                "learnt": [_row(lesson.learnt[c], found[c]) for c in found
                           if c not in refused and c not in guessed],
                "port_unknown": [
                    {"host": c.resource[:-2], "count": lesson.learnt[c].count, "for_example": one}
                    for c, one in guessed.items()
                ],
                "never_grantable": [
                    *({"operation": v.operation, "resource": console.printable(v.resource),
                       "count": v.count, "why": why} for v, why in lesson.never),
                    *({"operation": "open", "resource": str(c), "count": lesson.learnt[c].count,
                       "why": e.refusal} for c, e in refused.items()),
                ],
                "proposed": [
                    {"capability": str(pattern), "instead_of": [str(c) for c in members]}
                    for pattern, members in proposed.items()
                ],
            }
        )  # fmt: skip
    else:
        _tell(options, given, lesson, found, kept, refused, guessed, proposed)
    if not complete:
        console.note("omnibase: note: the trace has gaps: there may have been more attempts")
    report.summarise(outcome, inputs.context, brief=True)
    return exits.OK if outcome.error is None else outcome.code


def _row(learnt: Learnt, found: Enforcement) -> dict[str, Any]:
    return {
        "capability": str(learnt.capability),
        "count": learnt.count,
        "reason": learnt.reason,
        "usable": found.usable,
        "problem": found.refusal or found.problem,
    }


def _tell(
    options: Any,
    given: CapabilitySet,
    lesson: Lesson,
    found: dict[Capability, Enforcement],
    kept: list[Capability],
    refused: dict[Capability, Enforcement],
    guessed: dict[Capability, str],
    proposed: dict[Capability, list[Capability]],
) -> None:
    from omnibase.cli.enforce import database_copy

    say = console.note
    say(f"omnibase: wrote {console.printable(options.out)}: {len(given)} given, {len(kept)} learnt")
    for capability in given:
        say(f"  given   {console.printable(str(capability))}")
    for capability in kept:
        row, state = lesson.learnt[capability], found[capability]
        say(f"  learnt  {console.printable(str(capability))}  {row.reason}")
        if copy := database_copy(capability):
            say(
                f"          to read an SQLite database, a copy is enough: {console.printable(copy)}"
            )
        problem = state.refusal or state.problem
        if problem is not None:
            say(f"          {console.colour('yellow', 'but')} {console.printable(problem)}")
    for capability, state in found.items():
        if capability not in kept and capability not in refused and capability not in guessed:
            problem = console.printable(state.refusal or state.problem or "")
            say(f"  left    {console.printable(str(capability))}  {problem}")
    for capability, example in guessed.items():
        name = console.printable(capability.resource[:-2])
        say(f"  port unknown  {name}  {lesson.learnt[capability].reason}; if it is the usual one, "
            f"add `{console.printable(example)}`")  # fmt: skip
    for violation, why in lesson.never:
        name = console.printable(f"{violation.operation} ({violation.resource})")
        say(f"  never grantable  {name}  {console.printable(why)}")
    for capability, state in refused.items():
        name = console.printable(str(capability))
        why = "; ".join(filter(None, (state.refusal, state.hint)))
        say(f"  never grantable  {name}  {console.printable(why)}")
    for pattern, members in proposed.items():
        name = console.printable(str(pattern))
        say(f"  proposed  {name}  instead of {len(members)} of these; not in the file, since it "
            "allows whatever else matches")  # fmt: skip
    if any(not found[capability].usable for capability in kept):
        say(
            "hint: a run with this file is refused as things stand; `--usable-only` leaves that out"
        )


def _check_target(path: str, force: bool) -> str:
    """Says early what would keep the file from being written; links are followed."""
    target = os.path.realpath(path)
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        if not os.path.isdir(os.path.dirname(target)):
            raise ConfigurationError(
                f"`{path}` is in a directory that does not exist", hint="make it first"
            ) from None
        return target
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"`{path}` cannot be written: {getattr(error, 'strerror', error)}",
            hint="choose another path",
        ) from None
    if not stat.S_ISREG(mode):
        raise ConfigurationError(f"`{path}` is not a regular file", hint="name a file to write")
    if not force:
        raise ConfigurationError(f"`{path}` exists", hint="choose another name, or use `--force`")
    return target


def _write(target: str, document: dict[str, Any], force: bool) -> None:
    """Writes it whole or not at all."""
    draft = f"{target}.{secrets.token_hex(4)}.tmp"
    text = json.dumps(document, indent=2, ensure_ascii=True) + "\n"
    try:
        with open(draft, "x", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if force:
            os.replace(draft, target)
        else:
            os.link(draft, target)  # refuses what has appeared in the meantime
            os.unlink(draft)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise ConfigurationError(
            f"`{target}` cannot be written: {error.strerror}", hint="choose another path"
        ) from None
