"""What the commands on policies say alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from omnibase.cli import console, exits
from omnibase.errors import OmniBaseError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from omnibase.cli.stores import NamedPolicy
    from omnibase.core.security.decision import PolicyContext, PolicyRef, Verdict

__all__ = [
    "POLICY",
    "add_json_option",
    "aligned",
    "circumstances",
    "counted",
    "first_error",
    "note",
    "outcomes",
    "policies_of",
    "say",
    "say_rows",
    "tried",
    "warn_of_nobody",
]

POLICY: Final = "file (it has a slash or ends in .json or .cedar), or component: report, report#3"

_T = TypeVar("_T")
_COLOURS: Final = {
    "ok": "green", "granted": "green", "passed": "green", "masked": "yellow", "undecided": "yellow",
    "no": "red", "denied": "red", "failed": "red",
}  # fmt: skip
_WIDEST: Final = 60


def add_json_option(parser: Any) -> None:
    """Adds ``--json``."""
    parser.add_argument(
        "--json", action="store_true", help="one JSON object on standard output, nothing else"
    )


def say(line: str) -> None:
    """Prints a printable line to standard output."""
    console.out(line + "\n")


def say_rows(rows: Iterable[Sequence[str]]) -> None:
    """Prints rows that begin with an outcome."""
    for line in outcomes(rows):
        say(line)


def outcomes(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yields rows that begin with an outcome, aligned, the outcome in its colour."""
    for line in aligned(rows):
        word, space, rest = line.partition(" ")
        yield console.colour(_COLOURS.get(word, "bold"), word, 1) + space + rest


def counted(count: int, one: str, many: str | None = None) -> str:
    """Writes how many there are."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def note(text: str, hint: str | None = None) -> None:
    """Prints a remark to standard error."""
    prefix = console.colour("yellow", "omnibase: note:")
    console.note(f"{prefix} {console.printable(text, 2000)}")
    if hint:
        console.note(f"{console.colour('bold', 'hint:')} {console.printable(hint, 2000)}")


def aligned(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yields rows of texts as printable lines, with their columns aligned; the last is free."""
    table = [[console.printable(cell, 2000) for cell in row] for row in rows]
    widths = [
        min(_WIDEST, max(len(row[i]) for row in table if i < len(row)))
        for i in range(max(map(len, table), default=0))
    ]
    for row in table:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False))
        yield "  ".join(cells).rstrip()


def circumstances(context: PolicyContext) -> str:
    """Writes a context."""
    return (
        f"trust {context.trust}, lifecycle {context.lifecycle}, environment {context.environment}"
    )


def policies_of(verdict: Verdict) -> Iterator[tuple[str, str]]:
    """Yields the policies that made a decision: effect, and id with reason."""
    return ((ref.effect, _reasoned(ref)) for ref in verdict.policies)


def _reasoned(ref: PolicyRef) -> str:
    return f"`{ref.id}`" + (f": {ref.reason}" if ref.reason else "")


def tried(find: Callable[[], _T]) -> _T | OmniBaseError:
    """Returns what is found, or the error, which is told: the others are still to be tried."""
    try:
        return find()
    except OmniBaseError as error:
        console.report(error)
        return error


def first_error(found: Iterable[object]) -> int:
    """Returns the exit code of the first error, 0 if there is none."""
    errors = (one for one in found if isinstance(one, OmniBaseError))
    first = next(errors, None)
    return exits.OK if first is None else exits.for_error(first)


def warn_of_nobody(named: NamedPolicy) -> None:
    """Says so if a policy file does not tell whose it is."""
    if named.names_nobody:
        note(
            f"`{named.source}` has no policy and names no component",
            "it permits nothing; name the file `UUID.cedar.json` to say whose it is",
        )
