"""Says what is wrong with a policy in the words of Cedar's own syntax, and where in the text.

What is refused is the JSON form that a text was turned into, see `policy_document`.
Nobody has seen that: its keys become the words of the text, its paths a line and a column.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final
from uuid import UUID

from omnibase.core.security.patterns import quoted
from omnibase.core.security.policy_lexer import Lexeme, refusal, statements
from omnibase.core.security.policy_schema import ATTRIBUTES, CONTEXT, OPERATORS
from omnibase.core.security.strict_json import MAX_DEPTH, JsonPath, json_path
from omnibase.errors import PolicyError

__all__ = ["in_cedar"]

_COMPARISONS: Final = frozenset({"==", "!=", "<", "<=", ">", ">=", "like"})
_MIRRORED: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_JOINED: Final = ("&&", "||", "!")
_HEAD: Final = {
    "principal": '== Component::"{}"',
    "action": '== Action::"use"',
    "resource": "is FileRead",
}
_NAME: Final = re.compile(r"[a-z][a-z0-9._-]{0,63}")


def in_cedar(
    error: PolicyError, document: bytes, text: str, source: str, principal: UUID
) -> PolicyError:
    """Returns the error about a text for the error about its JSON form.

    Args:
        error: The refusal of the JSON form.
        document: The JSON form, see `json_of`.
        text: What was written.
        source: Where it came from.
        principal: Whose policies they must be; the nil UUID if nobody said.
    """
    policies = json.loads(document)["staticPolicies"]
    place = error.details.get("json_path")
    if place is None and "line" in error.details:  # all that is left to be wrong with the JSON
        id = next(id for id, one in policies.items() if _depth(one) > MAX_DEPTH - 2)
        path: JsonPath = ("staticPolicies", id)
        message, hint = "its conditions are nested too deeply", "split the policy into several"
    elif place is None:
        return error
    else:
        path = _path({"staticPolicies": policies}, place)
        message = error.message.partition(f"`{place}`: ")[2]
        message, hint = _words(policies[path[1]], path, message, error.hint or "", principal)
    id = str(path[1])
    index = list(policies).index(id)
    statement = statements(text)[index]
    if id != f"policy{index}":  # else it is Cedar's
        message = f"policy {quoted(id)}: {message}"
    details = {key: one for key, one in error.details.items() if key not in ("line", "column")}
    at = _lexeme(statement, policies[id], path).offset
    return refusal(source, message, hint, text=text, at=at, details=details)


def _depth(value: object) -> int:
    """Counts objects and lists within each other."""
    inside = list(value.values()) if isinstance(value, dict) else value
    return 1 + max(map(_depth, inside), default=0) if isinstance(inside, list) else 0


def _path(document: Any, place: str) -> JsonPath:
    """Reads what `json_path` wrote, by the document that it is a path in."""
    path: JsonPath = ()
    node = document
    while json_path(path) != place:
        keys = node if isinstance(node, dict) else range(len(node))
        key = next(key for key in keys if _leads(json_path((*path, key)), place))
        path, node = (*path, key), node[key]
    return path


def _leads(start: str, place: str) -> bool:
    return place.startswith(start) and place[len(start) : len(start) + 1] in ("", ".", "[")


# --- words -------------------------------------------------------------------------------


def _words(
    policy: dict[str, Any], path: JsonPath, message: str, hint: str, principal: UUID
) -> tuple[str, str]:
    """Returns what is wrong, and what to write."""
    part = path[2] if len(path) > 2 else None
    if part in _HEAD:
        return _head(policy, str(part), str(principal) if principal.int else None)
    if part == "annotations" and message.startswith("unknown key"):
        return f"unknown annotation `@{path[3]}`", "write `@id`, `@reason` or `@lint_ignore`"
    if part == "conditions":
        return _condition(policy, path, message, hint)
    return message, hint


def _head(policy: dict[str, Any], part: str, principal: str | None) -> tuple[str, str]:
    bare = [one for one in _HEAD if policy[one]["op"] == "All"]
    wanted = principal or "<uuid>"
    if part in bare:
        whole = ", ".join(f"`{one} {_HEAD[one].format(wanted)}`" for one in bare)
        more = _lookup("NAME") if part == "principal" and not principal else ""
        more += f"; {_types()}" if part == "resource" else ""
        return f"`{part}` alone stands for all", f"write {whole}{more}"
    if part == "action":
        return "the action is always the same", f"write `action {_HEAD['action']}`"
    if part == "resource":
        return _resource(policy["resource"])
    return _principal(policy["principal"], wanted)


def _principal(scope: dict[str, Any], wanted: str) -> tuple[str, str]:
    hint = f"write `principal {_HEAD['principal'].format(wanted)}`"
    entity = scope.get("entity", {})
    if scope["op"] != "==" or entity["type"] != "Component":
        return "a policy is for one component", hint
    try:
        UUID(entity["id"])
    except ValueError:
        name = entity["id"] if _NAME.fullmatch(entity["id"]) else "NAME"
        return f"{quoted(entity['id'])} is not the uuid of a component", hint + _lookup(name)
    return f"the policy is for component {quoted(entity['id'])}, not for `{wanted}`", hint


def _lookup(name: str) -> str:
    return f"; `omnibase registry show {name}` says the uuid"


def _resource(scope: dict[str, Any]) -> tuple[str, str]:
    if scope["op"] != "is" or "in" in scope:
        return (
            "the resource is named by its type, and told apart by conditions",
            'write e.g. `resource is FileRead` and `when { resource.path == "/data/x" }`',
        )
    name = scope["entity_type"]
    near = difflib.get_close_matches(name.title().replace("_", ""), ATTRIBUTES, 1)
    hint = f"did you mean `resource is {near[0]}`? {_types()}" if near else _types()
    return f"{quoted(name)} is no type of resource", hint


def _types() -> str:
    return "the types are " + ", ".join(f"`{one}`" for one in ATTRIBUTES)


def _condition(policy: dict[str, Any], path: JsonPath, message: str, hint: str) -> tuple[str, str]:
    node, rest = policy["conditions"][path[3]]["body"], path[5:]
    while rest and rest[0] in _JOINED:
        node, rest = node[rest[0]][rest[1]], rest[2:]
    if not rest:  # not the place, but how much there is before it
        return message, hint
    operator, inside = str(rest[0]), rest[1:]
    operands = node[operator]
    if operator not in OPERATORS:
        return _not_an_operator(operator, node)
    if inside[:1] == ("left",) and inside[-1] == "attr":
        return _attribute(policy, operands["left"])
    if inside[:1] == ("left",) or (inside[:1] == ("right",) and inside[1] != "Value"):
        return _not_a_constant(operator, operands)
    return message, hint


def _not_an_operator(operator: str, node: Any) -> tuple[str, str]:
    if operator == "!=":
        return "`!=` is not supported", f"write `!({_comparison('==', node['!='])})`"
    if operator in ("Value", ".", "Var"):
        return (
            f"{_shown(node)} is no comparison",
            'compare an attribute, e.g. `resource.path == "/data/x"`; leave out what always holds',
        )
    if operator == "is":
        return "`is` is not supported in a condition", "write one policy for each type"
    names = ", ".join(f"`{one}`" for one in OPERATORS)
    return f"{quoted(operator)} is not supported", f"allowed here: {names}"


def _attribute(policy: dict[str, Any], left: Any) -> tuple[str, str]:
    owner, name = left["."]["left"]["Var"], left["."]["attr"]
    entity = policy["resource"]["entity_type"]
    names = CONTEXT if owner == "context" else ATTRIBUTES[entity]
    known = " or ".join(f"`{owner}.{one}`" for one in names)
    whose = "the context" if owner == "context" else f"`{entity}`"
    return f"{whose} has no attribute {quoted(name)}", f"write {known}"


def _not_a_constant(operator: str, operands: Any) -> tuple[str, str]:
    left, right = operands["left"], operands.get("right", {})
    if _is_attribute(left):
        return f"{_shown(right)} is no constant", "write a text in double quotes, or a whole number"
    if _is_attribute(right):
        return "the attribute stands on the left", f"write `{_comparison(operator, operands)}`"
    return f"{_shown(left)} is no attribute", "write e.g. `resource.path` or `context.trust`"


def _is_attribute(node: Any) -> bool:
    return "." in node and node["."]["left"].get("Var") in ("resource", "context")


def _comparison(operator: str, operands: Any) -> str:
    left, right = operands["left"], operands["right"]
    if _is_attribute(right) and not _is_attribute(left):
        left, right, operator = right, left, _MIRRORED.get(operator, operator)
    return f"{_shown(left)[1:-1]} {operator} {_shown(right)[1:-1]}"


def _shown(node: Any) -> str:
    """Writes a short operand, in backticks; others as ``…``."""
    if "Value" in node and not isinstance(node["Value"], dict):
        return quoted(json.dumps(node["Value"], ensure_ascii=False))
    if "Var" in node:
        return quoted(node["Var"])
    if "." in node and "Var" in node["."]["left"]:
        return quoted(f"{node['.']['left']['Var']}.{node['.']['attr']}")
    return "`…`"


# --- places ------------------------------------------------------------------------------


def _lexeme(statement: list[Lexeme], policy: dict[str, Any], path: JsonPath) -> Lexeme:
    """Finds the lexeme of a statement that a path of its policy's JSON form is about."""
    part = path[2] if len(path) > 2 else None
    if part == "conditions":
        return _in_clause(_clause(statement, int(path[3])), policy, path)
    if part is None:
        return statement[0]
    # An annotation, or what stands in the head; the former may be called as the latter are.
    name, sign = (path[3], True) if part == "annotations" else (part, False)
    pairs = pairwise(statement)
    return next(one for before, one in pairs if one.text == name and (before.text == "@") is sign)


def _clause(statement: list[Lexeme], index: int) -> list[Lexeme]:
    """Returns what belongs to one ``when`` or ``unless``."""
    starts = [
        i
        for i, one in enumerate(statement)
        if one.text in ("when", "unless") and statement[i - 1].text in (")", "}")
    ]
    return statement[starts[index] : [*starts, len(statement)][index + 1]]


def _in_clause(clause: list[Lexeme], policy: dict[str, Any], path: JsonPath) -> Lexeme:
    """Finds a comparison, or what is compared, by the number of comparisons before it."""
    body = policy["conditions"][path[3]]["body"]
    signs = [i for i, one in enumerate(clause) if one.text in _COMPARISONS]
    inner = list(_comparisons(body, path[:5]))
    within = [one for one in inner if path[: len(one)] == one]
    if not within or len(signs) != len(inner):
        return clause[0]
    outermost = min(within, key=len)
    sign, rest = signs[inner.index(outermost)], path[len(outermost) :]
    if rest[:1] == ("left",):
        return clause[sign - (3 if rest[-1] == "Var" and rest[1] == "." else 1)]
    return clause[sign + 1 if rest else sign]


def _comparisons(node: Any, path: JsonPath) -> Iterator[JsonPath]:
    """Yields the paths of all comparisons in the order of the text."""
    if isinstance(node, list):
        node = dict(enumerate(node))
    if not isinstance(node, dict):
        return
    for key, inside in node.items():
        here = (*path, key)
        if key in _COMPARISONS and isinstance(inside, dict) and "left" in inside:
            yield from _comparisons(inside["left"], (*here, "left"))
            yield here
            yield from _comparisons(inside.get("right"), (*here, "right"))
        else:
            yield from _comparisons(inside, here)
