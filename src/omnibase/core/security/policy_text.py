"""Cedar's own syntax to the JSON form and back, and capabilities as conditions."""

from __future__ import annotations

import json
import re
from typing import Any

from omnibase.core.security.capabilities import Capability
from omnibase.core.security.conditions import (
    AllOf,
    Condition,
    Glob,
    Not,
    Test,
    all_of,
    negate,
)
from omnibase.core.security.host_patterns import HostPattern
from omnibase.core.security.name_patterns import SecretPattern, SizePattern
from omnibase.core.security.patterns import quoted
from omnibase.core.security.policy_lexer import check_text, refusal, statements
from omnibase.core.security.policy_schema import ENTITY_OF, MAX_POLICY_FILE_BYTES
from omnibase.core.security.policy_syntax import syntax_error

__all__ = [
    "condition_of",
    "condition_text",
    "expression_of",
    "new_policy",
    "text_of",
    "written",
]


def json_of(text: str, source: str) -> bytes:
    """Turns Cedar's own syntax into the JSON form; an ``@id`` becomes the key.

    Raises:
        PolicyError: The text is too long, too deep, or not Cedar.
    """
    import cedarpy

    check_text(text, source)
    try:
        parsed = json.loads(cedarpy.policies_to_json_str(text))
        document = {
            "staticPolicies": _by_id(parsed["staticPolicies"], text, source),
            "templates": parsed["templates"],
            "templateLinks": parsed["templateLinks"],
        }
        return written(document)
    except ValueError as error:
        raise syntax_error(text, source, str(error)) from None
    except RecursionError:
        raise refusal(
            source, "a condition is nested too deeply", "split the policy into several"
        ) from None


def _by_id(found: dict[str, Any], text: str, source: str) -> dict[str, Any]:
    policies: dict[str, Any] = {}
    # Cedar names them `policy0`, `policy1`, … in the text's order, and sorts by name.
    for i, key in enumerate(sorted(found, key=lambda key: int(key[len("policy") :]))):
        policy = found[key]
        annotations = policy.get("annotations", {})
        id = annotations.pop("id", None) or key
        if id in policies:
            fault, at = f"two policies have the id {quoted(id)}", statements(text)[i][0].offset
            raise refusal(source, fault, "give each its own `@id`", text=text, at=at)
        if not annotations:
            policy.pop("annotations", None)
        for clause in policy["conditions"]:
            clause["body"] = _tidy(clause["body"])
        policies[id] = policy
    return policies


def written(document: dict[str, Any]) -> bytes:
    """Returns a document as it is kept in a file: indented, unless that makes it too large."""
    data = json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"
    if len(data) > MAX_POLICY_FILE_BYTES:
        data = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    return data


def text_of(document: dict[str, Any]) -> str:
    """Writes a document in Cedar's own syntax; each key as the annotation ``@id``."""
    import cedarpy

    texts = []
    for id, policy in document["staticPolicies"].items():
        annotations = {"id": id} | policy.get("annotations", {})
        one = {
            "staticPolicies": {"policy0": policy | {"annotations": annotations}},
            "templates": {},
            "templateLinks": [],
        }
        text = cedarpy.policies_from_json_str(json.dumps(one))
        texts.append(cedarpy.format_policies(text, line_width=100).strip() + "\n")
    return "\n".join(texts)


def _tidy(body: Any) -> Any:
    """Joins literals of ``like``, and makes long chains of ``&&`` and ``||`` shallow."""
    ((operator, operands),) = body.items()
    if operator in ("&&", "||"):
        return _balanced(operator, [_tidy(part) for part in _chain(operator, body)])
    if operator == "!":
        return {"!": {"arg": _tidy(operands["arg"])}}
    if operator == "like":
        return {"like": {"left": operands["left"], "pattern": _joined(operands["pattern"])}}
    return body


def _chain(operator: str, body: Any) -> list[Any]:
    """Returns what a chain of one operator joins, from left to right."""
    parts, stack = [], [body]
    while stack:
        one = stack.pop()
        if isinstance(one, dict) and operator in one:
            stack += [one[operator]["right"], one[operator]["left"]]
        else:
            parts.append(one)
    return parts


def _balanced(operator: str, parts: list[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    half = len(parts) // 2
    left, right = _balanced(operator, parts[:half]), _balanced(operator, parts[half:])
    return {operator: {"left": left, "right": right}}


def _joined(pattern: list[Any]) -> list[Any]:
    items: list[Any] = []
    for item in pattern:
        if item != "Wildcard" and items and items[-1] != "Wildcard":
            items[-1] = {"Literal": items[-1]["Literal"] + item["Literal"]}
        else:
            items.append(item)
    return items


def expression_of(condition: Condition) -> Any:
    """Writes a condition in Cedar's JSON form."""
    if isinstance(condition, Test):
        left = {".": {"left": {"Var": condition.owner}, "attr": condition.attribute}}
        if isinstance(condition.value, tuple):
            pattern = ["Wildcard" if p is None else {"Literal": p} for p in condition.value]
            return {"like": {"left": left, "pattern": pattern}}
        return {condition.operator: {"left": left, "right": {"Value": condition.value}}}
    if isinstance(condition, Not):
        return {"!": {"arg": expression_of(condition.part)}}
    if isinstance(condition, bool):
        return {"Value": condition}
    operator = "&&" if isinstance(condition, AllOf) else "||"
    return _balanced(operator, [expression_of(part) for part in condition.parts])


def condition_text(condition: Condition) -> str:
    """Writes a condition in Cedar's own syntax."""
    if isinstance(condition, Test):
        name = f"{condition.owner}.{condition.attribute}"
        if isinstance(condition.value, tuple):
            parts = ("*" if p is None else _escaped(p).replace("*", "\\*") for p in condition.value)
            return f'{name} like "{"".join(parts)}"'
        value = condition.value
        shown = f'"{_escaped(value)}"' if isinstance(value, str) else str(value)
        return f"{name} {condition.operator} {shown}"
    if isinstance(condition, Not):
        return f"!({condition_text(condition.part)})"
    if isinstance(condition, bool):
        return str(condition).lower()
    operator = " && " if isinstance(condition, AllOf) else " || "
    return operator.join(
        condition_text(part) if isinstance(part, Test | Not) else f"({condition_text(part)})"
        for part in condition.parts
    )


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def condition_of(capability: Capability) -> Condition:
    """Returns a condition that holds for all of a capability, and for as little more as may be.

    It is exact, but for a ``?`` in a path or name, which becomes ``*``, and for
    wildcards above ``/**``, which then may stand for several segments.
    """
    pattern = capability.pattern
    if isinstance(pattern, HostPattern):
        parts: list[Condition] = [_host_condition(pattern.host)]
        if pattern.low == pattern.high:
            parts.append(Test("resource", "port", "==", pattern.low))
        elif (pattern.low, pattern.high) != (1, 65535):
            parts.append(Test("resource", "port", ">=", pattern.low))
            parts.append(Test("resource", "port", "<=", pattern.high))
        return all_of(parts)
    if isinstance(pattern, SecretPattern):
        name: Condition = Test("resource", "name", "==", pattern.name)
        if pattern.host is None:
            return name
        # `like "*"` alone would also be for the script's own hands.
        in_hands = Test("resource", "host", "==", "")
        host = negate(in_hands) if pattern.host == "*" else _host_condition(pattern.host)
        return all_of((name, host))
    if isinstance(pattern, SizePattern):
        return Test("resource", "bytes", "<=", pattern.bytes)
    attribute = "path" if "path" in _attributes(capability) else "name"
    text = capability.resource
    if pattern.is_literal:
        return Test("resource", attribute, "==", text)
    deep = text.endswith("/**")
    glob = _glob(text.replace("?", "*"))
    matched = Test("resource", attribute, "like", glob)
    if deep:
        return matched
    # A wildcard of Cedar crosses `/`, ours does not: no text has more of them.
    deeper: Glob = (None,) + ("/", None) * (text.count("/") + 1)
    return all_of((matched, negate(Test("resource", attribute, "like", deeper))))


def _attributes(capability: Capability) -> tuple[str, ...]:
    return ("path",) if ENTITY_OF[capability.type].startswith("File") else ("name",)


def _host_condition(host: str) -> Condition:
    if host.startswith("*"):
        return Test("resource", "host", "like", _glob(host))
    return Test("resource", "host", "==", host)


def _glob(text: str) -> Glob:
    parts: list[str | None] = []
    for part in re.split(r"(\*+)", text):
        if part:
            parts.append(None if part.startswith("*") else part)
    return tuple(parts)


def new_policy(effect: str, principal: str, entity: str, condition: Condition) -> dict[str, Any]:
    """Returns one policy in Cedar's JSON form."""
    return {
        "effect": effect,
        "principal": {"op": "==", "entity": {"type": "Component", "id": principal}},
        "action": {"op": "==", "entity": {"type": "Action", "id": "use"}},
        "resource": {"op": "is", "entity_type": entity},
        "conditions": []
        if condition is True
        else [{"kind": "when", "body": expression_of(condition)}],
    }
