"""Reads policy documents: Cedar's JSON form, strictly, limited to what can be decided.

What is accepted is listed in `policy_schema`; everything else is refused with the
policy's id, the place, and what is allowed there.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, NoReturn
from uuid import UUID

from omnibase.core.security.capabilities import CapabilityType
from omnibase.core.security.conditions import (
    Condition,
    Glob,
    Test,
    all_of,
    any_of,
    negate,
)
from omnibase.core.security.patterns import quoted
from omnibase.core.security.policy_schema import (
    ATTRIBUTES,
    CAPABILITY_OF,
    CONTEXT,
    ID_PATTERN,
    LINT_CODES,
    MAX_OPERATORS,
    MAX_POLICIES,
    MAX_POLICY_FILE_BYTES,
    MAX_REASON,
    MAX_TEXT,
    OPERATORS,
)
from omnibase.core.security.policy_values import glob_fault, literal_fault
from omnibase.core.security.strict_json import JsonPath, json_path, located, parse_json
from omnibase.errors import ConfigurationError, PolicyError

__all__ = ["Rule", "read_policies"]

EXAMPLE = '{"staticPolicies": {}, "templates": {}, "templateLinks": []}'
_ID = re.compile(ID_PATTERN[1:-1])
_MAX_NUMBER = 1 << 44


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One policy of a document.

    Attributes:
        id: Its key in the document.
        effect: ``permit`` or ``forbid``.
        type: What it is about.
        condition: ``when`` and not ``unless``, joined.
        reason: The annotation that reaches whoever is denied, or ``None``.
        ignored: Codes that `lint` is to be silent about.
    """

    id: str
    effect: str
    type: CapabilityType
    condition: Condition
    reason: str | None = None
    ignored: frozenset[str] = frozenset()

    @property
    def is_permit(self) -> bool:
        """Whether the policy is a permit."""
        return self.effect == "permit"


def read_policies(
    data: bytes, source: str, principal: UUID
) -> tuple[tuple[Rule, ...], dict[str, Any]]:
    """Reads a document of one component.

    Returns:
        The policies in the document's order, and the decoded document.

    Raises:
        PolicyError: It is not strict JSON, or says something that is not accepted;
            ``details`` has ``source``, ``json_path``, ``policy``, ``line`` and
            ``column`` as far as they are known.
    """
    try:
        text, document = parse_json(data, source, limit=MAX_POLICY_FILE_BYTES, hint=_hint())
    except ConfigurationError as error:
        raise PolicyError(error.message, details=error.details, hint=error.hint) from None
    try:
        reader = _Reader(path=(), principal=principal)
        return _read_document(document, reader), document  # type: ignore[return-value]
    except PolicyError as error:
        raise located(error, source, text) from None


def _hint() -> str:
    return f"write a document like `{EXAMPLE}`"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """Where in the document we are."""

    path: JsonPath
    principal: UUID
    policy: str | None = None
    entity: str = ""
    operators: list[int] = field(default_factory=lambda: [0])

    def at(self, *keys: str | int) -> _Reader:
        return _Reader(
            path=(*self.path, *keys),
            principal=self.principal,
            policy=self.policy,
            entity=self.entity,
            operators=self.operators,
        )

    def refuse(self, message: str, allowed: str, start: str = "allowed here: ") -> NoReturn:
        place = json_path(self.path)
        details: dict[str, Any] = {"json_path": place}
        if self.policy is not None:
            details["policy"] = self.policy
            message = f"policy `{self.policy}`, `{place}`: {message}"
        else:
            message = f"`{place}`: {message}"
        raise PolicyError(message, details=details, hint=f"{start}{allowed}")

    def mapping(
        self, value: object, required: tuple[str, ...], optional: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """Returns an object that has the required keys and no others than these."""
        names = ", ".join(f"`{name}`" for name in required + optional)
        if not isinstance(value, dict):
            self.refuse(f"expected an object, found {_shown(value)}", f"an object with {names}")
        for key in value:
            if key not in required and key not in optional:
                self.at(key).refuse(f"unknown key {quoted(key)}", names)
        for key in required:
            if key not in value:
                self.refuse(f"the key `{key}` is missing", names)
        return value

    def constant(self, value: object, *allowed: object) -> Any:
        """Returns a value that is one of a few."""
        # `True == 1`, so the types count.
        if not any(type(value) is type(one) and value == one for one in allowed):
            shown = ", ".join(f"`{json.dumps(one)}`" for one in allowed)
            self.refuse(f"found {_shown(value)}", shown)
        return value

    def text(self, value: object, allowed: str, most: int = MAX_TEXT) -> str:
        """Returns a printable text of a bounded length."""
        if not isinstance(value, str):
            self.refuse(f"expected a text, found {_shown(value)}", allowed)
        if len(value) > most or not value.isprintable():
            self.refuse(
                f"the text {quoted(value)} is too long or not printable",
                f"{allowed}, printable and at most {most} characters",
            )
        return value


def _read_document(document: object, reader: _Reader) -> tuple[Rule, ...]:
    found = reader.mapping(document, ("staticPolicies", "templates", "templateLinks"))
    reader.at("templates").constant(found["templates"], {})
    reader.at("templateLinks").constant(found["templateLinks"], [])
    policies, inside = found["staticPolicies"], reader.at("staticPolicies")
    if not isinstance(policies, dict):
        inside.refuse(f"expected an object, found {_shown(policies)}", "policies by their ids")
    if len(policies) > MAX_POLICIES:
        inside.refuse(f"there are {len(policies)} policies", f"at most {MAX_POLICIES}")
    return tuple(_read_policy(id, policy, inside) for id, policy in policies.items())


def _read_policy(id: str, policy: object, outside: _Reader) -> Rule:
    here = outside.at(id)
    if _ID.fullmatch(id) is None:
        here.refuse(
            f"the id {quoted(id)} is malformed",
            "1 to 64 ASCII letters, digits, `.`, `_` and `-`, a letter or digit first",
        )
    reader = _Reader(path=here.path, principal=here.principal, policy=id)
    found = reader.mapping(
        policy, ("effect", "principal", "action", "resource", "conditions"), ("annotations",)
    )
    effect = reader.at("effect").constant(found["effect"], "permit", "forbid")
    _read_entity(found["principal"], reader.at("principal"), "Component", str(reader.principal))
    _read_entity(found["action"], reader.at("action"), "Action", "use")
    resource = reader.at("resource")
    scope = resource.mapping(found["resource"], ("op", "entity_type"))
    resource.at("op").constant(scope["op"], "is")
    entity = resource.at("entity_type").constant(scope["entity_type"], *ATTRIBUTES)
    reason, ignored = _read_annotations(found.get("annotations", {}), reader.at("annotations"))
    conditions = found["conditions"]
    if not isinstance(conditions, list):
        reader.at("conditions").refuse(
            f"expected a list, found {_shown(conditions)}", "a list of `when` and `unless`"
        )
    inner = _Reader(path=here.path, principal=here.principal, policy=id, entity=entity)
    return Rule(
        id=id,
        effect=effect,
        type=CAPABILITY_OF[entity],
        condition=all_of(
            [_read_clause(one, inner.at("conditions", i)) for i, one in enumerate(conditions)]
        ),
        reason=reason,
        ignored=ignored,
    )


def _read_entity(value: object, reader: _Reader, kind: str, id: str) -> None:
    found = reader.mapping(value, ("op", "entity"))
    reader.at("op").constant(found["op"], "==")
    inside = reader.at("entity")
    entity = inside.mapping(found["entity"], ("type", "id"))
    inside.at("type").constant(entity["type"], kind)
    if kind == "Component" and not reader.principal.int and entity["id"] != id:
        inside.at("id").refuse(
            f"found {_shown(entity['id'])}",
            "the component's uuid, see `omnibase registry show NAME`",
        )
    inside.at("id").constant(entity["id"], id)


def _read_annotations(value: object, reader: _Reader) -> tuple[str | None, frozenset[str]]:
    found = reader.mapping(value, (), ("id", "reason", "lint_ignore"))
    if "id" in found:
        reader.at("id").constant(found["id"], reader.policy)
    reason = None
    if "reason" in found:
        inside = reader.at("reason")
        reason = inside.text(found["reason"], "why the policy is there", MAX_REASON).strip()
        if not reason:
            inside.refuse("the reason is empty", "why the policy is there")
    codes: frozenset[str] = frozenset()
    if "lint_ignore" in found:
        known = ", ".join(f"`{code}`" for code in LINT_CODES)
        inside = reader.at("lint_ignore")
        listed = inside.text(found["lint_ignore"], f"{known}, with commas between them")
        codes = frozenset(code.strip() for code in listed.split(","))
        for code in sorted(codes - LINT_CODES.keys()):
            inside.refuse(f"{quoted(code)} is no code of a lint", known)
    return reason, codes


def _read_clause(value: object, reader: _Reader) -> Condition:
    found = reader.mapping(value, ("kind", "body"))
    kind = reader.at("kind").constant(found["kind"], "when", "unless")
    body = _read_expression(found["body"], reader.at("body"))
    return negate(body) if kind == "unless" else body


def _read_expression(value: object, reader: _Reader) -> Condition:
    reader.operators[0] += 1
    if reader.operators[0] > MAX_OPERATORS:
        reader.refuse(
            "the conditions are too long",
            f"at most {MAX_OPERATORS} operators and comparisons; split the policy into several",
        )
    names = ", ".join(f"`{name}`" for name in OPERATORS)
    if not isinstance(value, dict) or len(value) != 1:
        reader.refuse(
            f"expected an object with one operator, found {_shown(value)}", f"one of {names}"
        )
    ((operator, operands),) = value.items()
    inside = reader.at(operator)
    if operator not in OPERATORS:
        inside.refuse(f"the operator {quoted(operator)} is not supported", f"one of {names}")
    if operator == "!":
        found = inside.mapping(operands, ("arg",))
        return negate(_read_expression(found["arg"], inside.at("arg")))
    if operator in ("&&", "||"):
        found = inside.mapping(operands, ("left", "right"))
        parts = [_read_expression(found[side], inside.at(side)) for side in ("left", "right")]
        return all_of(parts) if operator == "&&" else any_of(parts)
    return _read_test(operator, operands, inside)


def _read_test(operator: str, operands: object, reader: _Reader) -> Test:
    other = "pattern" if operator == "like" else "right"
    found = reader.mapping(operands, ("left", other))
    owner, attribute = _read_attribute(found["left"], reader.at("left"))
    allowed = ("==",) if owner == "context" else ATTRIBUTES[reader.entity][attribute]
    if operator not in allowed:
        reader.refuse(
            f"`{owner}.{attribute}` cannot be compared with `{operator}`",
            ", ".join(f"`{one}`" for one in allowed),
        )
    inside = reader.at(other)
    if operator == "like":
        glob = _read_glob(found["pattern"], inside)
        fault = glob_fault(reader.entity, attribute, glob)
        if fault is not None:
            inside.refuse(*fault, start="")
        if None not in glob:
            return Test(owner, attribute, "==", glob[0] if glob and glob[0] else "")
        return Test(owner, attribute, "like", glob)
    inside.mapping(found["right"], ("Value",))
    return Test(
        owner, attribute, operator, _read_value(owner, attribute, found["right"]["Value"], inside)
    )


def _read_attribute(value: object, reader: _Reader) -> tuple[str, str]:
    inside = reader.at(".")
    found = inside.mapping(reader.mapping(value, (".",))["."], ("left", "attr"))
    variable = inside.at("left").mapping(found["left"], ("Var",))
    owner = inside.at("left", "Var").constant(variable["Var"], "resource", "context")
    names = CONTEXT if owner == "context" else ATTRIBUTES[reader.entity]
    return owner, inside.at("attr").constant(found["attr"], *names)


def _read_glob(value: object, reader: _Reader) -> Glob:
    allowed = 'a list of `"Wildcard"` and `{"Literal": "text"}`'
    if not isinstance(value, list):
        reader.refuse(f"expected a list, found {_shown(value)}", allowed)
    parts: list[str | None] = []
    for i, item in enumerate(value):
        if item == "Wildcard":
            if parts[-1:] != [None]:
                parts.append(None)
            continue
        if not isinstance(item, dict):
            reader.at(i).refuse(f"found {_shown(item)}", allowed)
        found = reader.at(i).mapping(item, ("Literal",))
        literal = reader.at(i, "Literal").text(found["Literal"], "a text")
        if literal and parts and parts[-1] is not None:
            parts[-1] += literal
        elif literal:
            parts.append(literal)
    if sum(len(part) for part in parts if part) > MAX_TEXT:
        reader.refuse("the pattern is too long", f"at most {MAX_TEXT} characters")
    return tuple(parts)


def _read_value(owner: str, attribute: str, value: object, reader: _Reader) -> str | int:
    inside = reader.at("Value")
    if attribute in ("port", "bytes"):
        most = 65535 if attribute == "port" else _MAX_NUMBER
        if type(value) is not int or not 0 <= value <= most:
            inside.refuse(f"found {_shown(value)}", f"a whole number from 0 to {most}")
        return value
    if owner == "context":
        values = CONTEXT[attribute]
        if values is not None:
            return str(inside.constant(value, *values))
        return inside.text(value, "the name of an environment")
    text = inside.text(value, f"a {attribute}")
    fault = literal_fault(reader.entity, attribute, text)
    if fault is not None:
        inside.refuse(*fault, start="")
    return text


def _shown(value: object) -> str:
    """Names a JSON value without repeating more than its start."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return quoted(json.dumps(value))
