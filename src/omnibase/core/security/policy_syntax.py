"""Says where Cedar refuses a text, which Cedar does not, and what to write instead."""

from __future__ import annotations

import re
from typing import Final

from omnibase.core.security.policy_lexer import HEAD, Lexeme, refusal, statements
from omnibase.core.security.policy_schema import ATTRIBUTES, CONTEXT
from omnibase.errors import PolicyError

__all__ = ["syntax_error"]

_FORM: Final = f'a policy is `{HEAD} when {{ resource.path like "/data/*" }};`'

# What Cedar says, and what to write.
_HINTS: Final[tuple[tuple[str, str], ...]] = (
    ("invalid policy effect", "write `permit` or `forbid`"),
    ("invalid policy condition", "write `when { … }` or `unless { … }`"),
    ("invalid variable", "write e.g. `resource.path`"),
    ("variable", f"write `{HEAD}`"),  # a wrong one in the head, or a missing one
    ("expected an entity uid", f"write `{HEAD}`"),
    ("right hand side of a `like`", 'write one text behind it, e.g. `like "/data/*"`'),
    ("not a valid escape", 'write `\\\\` for a backslash, `\\"` for a quote, `\\*` for a star'),
    ("integer parse error", "write a smaller number"),
    ("multiple relational operators", "join two comparisons with `&&` or `||`"),
    ("duplicate annotation", "keep one of the two"),
)

# What Cedar names as being at fault, other than a token.
_NAMED: Final = re.compile(
    r"the input `(?P<part>.*)` is not a valid escape|found (?:name|literal) `(.*)`"
    r"|variable `(\w+)` where|of a `(like)`|: @?(\w+)$"
)


def syntax_error(text: str, source: str, said: str) -> PolicyError:
    """Returns the error for a text that Cedar refuses.

    Args:
        text: The text; it has passed `check_text`.
        source: Where it came from.
        said: What Cedar said about all of it.
    """
    for statement in statements(text):
        last = statement[-1]
        fault = _fault(text[statement[0].offset : last.offset + len(last.text)])
        if fault is not None:
            found = _at_fault(text, statement, fault)
            hint = _hint(fault, statement, found)
            return refusal(source, f"it is not cedar: {fault}", hint, text=text, at=found.offset)
    return refusal(source, f"it is not cedar: {said[:200]}", _FORM)


def _fault(text: str) -> str | None:
    """Says what Cedar has against a text."""
    import cedarpy

    try:
        cedarpy.policies_to_json_str(text)
    except ValueError as error:
        return str(error)[:200]
    return None


def _at_fault(text: str, statement: list[Lexeme], fault: str) -> Lexeme:
    """Finds the lexeme that Cedar stumbles over."""
    if fault == "unexpected token `;`":
        return statement[-1]
    if fault.startswith(("unexpected token", "invalid token")):
        # The shortest beginning that has the same fault; of any shorter, `;` is the fault.
        start, low, high = statement[0].offset, 0, len(statement) - 1
        while low < high:
            middle = (low + high) // 2
            end = statement[middle].offset + len(statement[middle].text)
            if _fault(f"{text[start:end]} ;") == fault:
                high = middle
            else:
                low = middle + 1
        return statement[low]
    if fault.startswith("integer parse error"):
        numbers = (one for one in statement if one.text.isdecimal() and len(one.text) > 18)
        return next(numbers, statement[0])
    named = _NAMED.search(fault)
    if named is None:
        return statement[0]
    if named["part"]:
        return next((one for one in statement if named["part"] in one.text), statement[0])
    before = ["", *(one.text for one in statement)]
    found = [
        one
        for one, last in zip(statement, before, strict=False)
        if one.text == named[named.lastindex or 0] and last != "."
    ]
    # Of several `like`, Cedar does not say which.
    sure = len(found) == 1 or (found and "`like`" not in fault)
    return found[0] if sure else statement[0]


def _hint(fault: str, statement: list[Lexeme], found: Lexeme) -> str:
    name = fault.removeprefix("invalid variable: ")
    if name in CONTEXT:
        return f"write `context.{name}`"
    if any(name in one for one in ATTRIBUTES.values()):
        return f"write `resource.{name}`"
    known = next((hint for start, hint in _HINTS if start in fault), None)
    if known is not None:
        return known
    before = ["", "", "", *(one.text for one in statement[: statement.index(found)])][-3:]
    if before[-1] in ("when", "unless"):
        return f"write `{before[-1]} {{ … }}`"
    if "@" in before:
        return 'write an annotation like `@id("data")`'
    if found.text in (")", "}"):
        return f'something is missing before `{found.text}`, e.g. `resource.path == "/data/x"`'
    return _FORM
