"""Takes Cedar's own syntax apart, and refuses what must not reach Cedar's parser."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple, NoReturn

from omnibase.core.security.globs import quoted_path
from omnibase.core.security.name_patterns import SizePattern
from omnibase.core.security.patterns import quoted
from omnibase.core.security.policy_schema import MAX_POLICIES, MAX_POLICY_FILE_BYTES
from omnibase.errors import CapabilityError, PolicyError

__all__ = ["HEAD", "Lexeme", "check_text", "refusal", "statements"]

# Cedar's parser recurses and has no bound of its own: some sixty brackets in each other, or
# five hundred operators in a row, end the process in a thread with half a MiB of stack.
MAX_NESTING = 16
MAX_SIGNS = 256
MAX_LEXEMES = 2000
_SIGNS = frozenset(
    {"&&", "||", "!", "==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "::", "when", "unless"}
)

HEAD: Final = (
    'permit(principal == Component::"<uuid>", action == Action::"use", resource is FileRead)'
)
"""How each policy begins."""

_ONE_BY_ONE: Final = "compare one by one, joined by `||`"
_JOIN: Final = "write `&&` and `||`"
_TEXTS: Final = ("texts are in double quotes", 'write `"…"`')

# The usual slips, and what the subset has not. The latter is refused before Cedar reads it:
# an attribute of an attribute takes its parser time and memory that grow with the square of
# the chain.
_SLIPS: Final[dict[str, tuple[str, str]]] = {
    "#": ("`#` begins no comment", "comments begin with `//`"),
    **dict.fromkeys("'`\u2018\u2019\u201c\u201d", _TEXTS),
    "=": ("`=` compares nothing", "write `==`"),
    "&": ("`&` joins nothing", "write `&&`"),
    "|": ("`|` joins nothing", "write `||`"),
    "?": ("a template is not allowed", f"write one policy for each component: `{HEAD}`"),
    "\ufeff": ("there is a byte order mark", "save it as UTF-8 without one"),
    **{
        word: (f"`{word}` is no operator", f"write `{sign}`")
        for lower, sign in (("and", "&&"), ("or", "||"), ("not", "!(…)"))
        for word in (lower, lower.upper())
    },
    "has": ("`has` is not allowed", "leave it out: every resource has all attributes of its type"),
    "if": ("`if` is not allowed", _JOIN),
    "then": ("`then` is not allowed", _JOIN),
    "else": ("`else` is not allowed", _JOIN),
    "in": ("`in` is not allowed", _ONE_BY_ONE),
    "contains": ("`contains` is not allowed", _ONE_BY_ONE),
    "template": ("`template` is not allowed", "write one policy for each component"),
}
_CLOSES: Final = {")": "(", "]": "[", "}": "{"}

_LEXEME = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n\r]*|\s+|\w+|&&|\|\||[<>=!]=|::|.', re.DOTALL)


_CALL = re.compile(r"\s*(\w+)\s*\(")


class Lexeme(NamedTuple):
    """A word, a sign or a text.

    Attributes:
        text: As it is written.
        offset: Where it begins.
    """

    text: str
    offset: int


def statements(text: str) -> list[list[Lexeme]]:
    """Splits a text at each ``;``; what stands after the last is a statement, too."""
    found: list[list[Lexeme]] = [[]]
    for match in _LEXEME.finditer(text):
        lexeme = match.group()
        if lexeme.isspace() or lexeme.startswith("//"):
            continue
        found[-1].append(Lexeme(lexeme, match.start()))
        if lexeme == ";":
            found.append([])
    return found if found[-1] else found[:-1]


def refusal(
    source: str,
    message: str,
    hint: str | None,
    *,
    text: str = "",
    at: int | None = None,
    details: dict[str, Any] | None = None,
) -> PolicyError:
    """Returns the error for a text.

    Args:
        source: Where it came from.
        message: What is wrong.
        hint: What to write.
        text: The text.
        at: The offset at fault, if it is known.
        details: What else is known.
    """
    place = quoted_path(source)
    known: dict[str, Any] = {"source": place[1:-1], **(details or {})}
    if at is not None:
        known["line"] = text.count("\n", 0, at) + 1
        known["column"] = at - text.rfind("\n", 0, at)
        place += f", line {known['line']}, column {known['column']}"
    return PolicyError(f"{place}: {message}", details=known, hint=hint)


def check_text(text: str, source: str) -> None:
    """Refuses the usual slips, and a text that would exhaust the stack of Cedar's parser.

    Raises:
        PolicyError: Likewise.
    """
    if len(text.encode("utf-8", "replace")) > MAX_POLICY_FILE_BYTES:
        raise refusal(source, f"it is larger than {MAX_POLICY_FILE_BYTES} bytes", "make it shorter")

    def refuse(fault: str, hint: str, at: int | None = None) -> NoReturn:
        raise refusal(source, fault, hint, text=text, at=found.start() if at is None else at)

    def line(offset: int) -> int:
        return text.count("\n", 0, offset) + 1

    opened: list[re.Match[str]] = []
    count = signs = policies = dots = end = 0
    begun = False  # `permit` or `forbid` of this policy was met
    before = ""
    for found in _LEXEME.finditer(text):
        lexeme = found.group()
        if lexeme.isspace() or lexeme.startswith("//"):
            continue
        if lexeme in _SLIPS:
            in_head = lexeme == "in" and len(opened) == 1 and opened[0].group() == "("
            fault, hint = _SLIPS[lexeme]
            refuse(fault, f"write `{HEAD}`" if in_head else hint)
        if lexeme[0].isdecimal() and not lexeme.isdecimal():
            refuse(*_no_number(lexeme))
        # One dot between two names, as in `resource.path`: `a.b.c` is two without a sign between.
        if not lexeme.isidentifier() and lexeme != "(":
            dots = dots + 1 if lexeme == "." else 0
        elif lexeme == "like" and before != ".":
            dots = 0
        if lexeme == "(" and dots and before.isidentifier():
            refuse(*_no_method(before))
        before = lexeme
        if dots > 1:
            call = _CALL.match(text, found.end())
            if call:
                refuse(*_no_method(call[1]))
            refuse(
                "an attribute has no attributes of its own",
                "write e.g. `resource.path` or `context.trust`",
            )
        if lexeme == '"':
            refuse("a text does not end", "close the quotes")
        count, signs = count + 1, signs + (lexeme in _SIGNS)
        if count > MAX_LEXEMES or signs > MAX_SIGNS:
            refuse(
                "the policy is too long",
                f"split it; at most {MAX_LEXEMES} words and signs, {MAX_SIGNS} of them operators",
            )
        if lexeme in "([{":
            opened.append(found)
            if len(opened) > MAX_NESTING:
                refuse("it is nested too deeply", f"at most {MAX_NESTING} brackets in each other")
        elif lexeme in ")]};" and opened and _CLOSES.get(lexeme) != opened[-1].group():
            last = opened[-1]
            refuse(
                f"`{last.group()}` of line {line(last.start())} is not closed before `{lexeme}`",
                "close it, or remove it",
            )
        elif lexeme in ")]}":
            if not opened:
                refuse(f"`{lexeme}` closes nothing", "remove it")
            opened.pop()
        elif lexeme == ";":
            count, signs, policies, begun = 0, 0, policies + 1, False
            if policies > MAX_POLICIES:
                refuse("there are too many policies", f"at most {MAX_POLICIES}")
        elif lexeme in ("permit", "forbid", "@") and not opened:
            if begun:
                refuse("the policy before has no `;` at its end", "a policy ends with `;`", end - 1)
            begun = lexeme != "@"
        end = found.end()
    if opened:
        last = opened[-1]
        refuse(f"`{last.group()}` is not closed", "close it, or remove it", last.start())
    if begun:
        refuse("there is no `;` at the end", "a policy ends with `;`", end - 1)


def _no_method(name: str) -> tuple[str, str]:
    hint = _ONE_BY_ONE if name.startswith("contains") else "compare the attribute itself"
    return f"a call of the method {quoted(name)} is not allowed", hint


def _no_number(lexeme: str) -> tuple[str, str]:
    try:
        hint = f"sizes are in bytes: write `{SizePattern.parse(lexeme).bytes}`"
    except CapabilityError:
        hint = "write digits alone; sizes are in bytes"
    return f"{quoted(lexeme)} is not a number", hint
