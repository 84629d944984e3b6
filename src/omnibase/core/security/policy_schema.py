"""What a policy may speak of: entity types, their attributes, and the published schemas."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from omnibase.core.security.capabilities import CapabilityType

__all__ = [
    "ATTRIBUTES",
    "CAPABILITY_OF",
    "CEDAR_SCHEMA",
    "CONTEXT",
    "ENTITY_OF",
    "LIFECYCLES",
    "LINT_CODES",
    "MAX_OPERATORS",
    "MAX_POLICIES",
    "MAX_POLICY_FILE_BYTES",
    "MAX_REASON",
    "OPERATORS",
    "TRUSTS",
    "policy_file_schema",
]

MAX_POLICY_FILE_BYTES = 1 << 20
MAX_POLICIES = 2000
MAX_OPERATORS = 128
"""Operators and comparisons in the conditions of one policy."""
MAX_REASON = 300
MAX_TEXT = 4096

TRUSTS = ("untrusted", "semi_trusted", "trusted")
LIFECYCLES = ("draft", "active", "deprecated", "retired")

ENTITY_OF: Mapping[CapabilityType, str] = MappingProxyType(
    {kind: kind.value.title().replace("_", "") for kind in CapabilityType}
)
"""The Cedar entity type of each capability type, e.g. ``FileRead``."""

CAPABILITY_OF: Mapping[str, CapabilityType] = MappingProxyType(
    {entity: kind for kind, entity in ENTITY_OF.items()}
)

_TEXT, _NUMBER, _EXACT = ("==", "like"), ("==", "<", "<=", ">", ">="), ("==",)

_FILE: dict[str, tuple[str, ...]] = {"path": _TEXT}
_GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "FileRead": _FILE,
    "FileWrite": _FILE,
    "NetworkConnect": {"host": _TEXT, "port": _NUMBER},
    # The name of a secret has no wildcards in a capability either.
    "SecretAccess": {"name": _EXACT, "host": _TEXT},
    "Memory": {"bytes": _NUMBER},
}

_NAMED: dict[str, tuple[str, ...]] = {"name": _TEXT}

ATTRIBUTES: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {entity: _GROUPS.get(entity, _NAMED) for entity in CAPABILITY_OF}
)
"""For each entity type its attributes, and the operators that each may be compared with."""

CONTEXT: Mapping[str, tuple[str, ...] | None] = MappingProxyType(
    {"trust": TRUSTS, "lifecycle": LIFECYCLES, "environment": None}
)
"""Attributes of the context, compared with ``==``; ``None``: any text."""

OPERATORS = ("==", "like", "<", "<=", ">", ">=", "&&", "||", "!")

LINT_CODES: Mapping[str, str] = MappingProxyType(
    {
        "OBP001": "permit without a condition",
        "OBP002": "permit for every path",
        "OBP003": "permit for every host and port",
        "OBP004": "shadowed policy: another one already says all of it",
        "OBP005": "dead permit: forbids take all of it away",
        "OBP006": "condition that never holds",
        "OBP007": "forbid without a reason",
        "OBP008": "permit for every name or size, or for a secret at any host or none",
        "OBP009": "too complex to be checked whole, from this policy on",
        "OBP010": "`*` or `?` that is a plain character: only `*` in `like` is a wildcard",
        "OBP011": "`like` that ends within a name: also for names that go on",
    }
)
"""What `lint` finds; the annotation ``lint_ignore`` lists codes to be silent about."""


def _cedar_schema() -> str:
    lines = [
        "// The resources, the one action and the context that an OmniBase policy may speak of.",
        "",
        "entity Component;",
        "",
    ]
    for entity, attributes in ATTRIBUTES.items():
        fields = ", ".join(
            f"{name}: {'Long' if operators is _NUMBER else 'String'}"
            for name, operators in attributes.items()
        )
        lines.append(f"entity {entity} {{ {fields} }};")
    resources = ",\n    ".join(ATTRIBUTES)
    context = ", ".join(f"{name}: String" for name in CONTEXT)
    lines += [
        "",
        "action use appliesTo {",
        "  principal: [Component],",
        f"  resource: [\n    {resources}\n  ],",
        f"  context: {{ {context} }}",
        "};",
    ]
    return "\n".join(lines) + "\n"


CEDAR_SCHEMA = _cedar_schema()
"""The Cedar schema that every document is validated against, in Cedar's own syntax."""

_UUID = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._\-]{0,63}$"


def _object(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def _of(owner: str, attribute: str) -> dict[str, Any]:
    left = _object({"Var": {"const": owner}})
    return _object({".": _object({"left": left, "attr": {"const": attribute}})})


def _comparison(owner: str, attribute: str, operator: str, value: dict[str, Any]) -> dict[str, Any]:
    left = _of(owner, attribute)
    if operator == "like":
        return _object({"like": _object({"left": left, "pattern": {"$ref": "#/$defs/pattern"}})})
    return _object({operator: _object({"left": left, "right": _object({"Value": value})})})


def _alike() -> dict[str, list[str]]:
    """Returns the entity types that have the same attributes, by the first of them."""
    groups: dict[str, list[str]] = {}
    for entity, attributes in ATTRIBUTES.items():
        first = next((one for one in groups if ATTRIBUTES[one] == attributes), entity)
        groups.setdefault(first, []).append(entity)
    return groups


def _conditions(entity: str) -> dict[str, Any]:
    this = {"$ref": f"#/$defs/{entity}"}
    text = {"type": "string", "maxLength": MAX_TEXT}
    number = {"type": "integer", "minimum": 0, "maximum": 1 << 44}
    both = _object({"left": this, "right": this})
    forms = [_object({"&&": both}), _object({"||": both}), _object({"!": _object({"arg": this})})]
    for attribute, operators in ATTRIBUTES[entity].items():
        value = number if operators is _NUMBER else text
        forms += [_comparison("resource", attribute, o, value) for o in operators]
    for name, values in CONTEXT.items():
        value = text if values is None else {"enum": list(values)}
        forms.append(_comparison("context", name, "==", value))
    return {"anyOf": forms}


def policy_file_schema() -> dict[str, Any]:
    """Returns the JSON Schema (draft 2020-12) of a policy document.

    It checks the shape; `Policy.parse` also checks each path, host and name, that
    every policy is for the component, and the bounds of conditions.
    """

    groups = _alike()

    def policy(entity: str) -> dict[str, Any]:
        kind, alike = {"enum": ["when", "unless"]}, groups[entity]
        body = {"$ref": f"#/$defs/{entity}"}
        text = {"type": "string"}
        return _object(
            {
                "effect": {"enum": ["permit", "forbid"]},
                "principal": _entity("==", "Component", {"type": "string", "pattern": _UUID}),
                "action": _entity("==", "Action", {"const": "use"}),
                "resource": _object({"op": {"const": "is"}, "entity_type": {"enum": alike}}),
                "conditions": {"type": "array", "items": _object({"kind": kind, "body": body})},
                "annotations": _object(
                    {
                        "id": {"type": "string", "pattern": ID_PATTERN},
                        "reason": {**text, "minLength": 1, "maxLength": MAX_REASON},
                        "lint_ignore": {
                            **text,
                            "pattern": r"^OBP[0-9]{3}( *, *OBP[0-9]{3})*$",
                        },
                    },
                    ("id", "reason", "lint_ignore"),
                ),
            },
            ("annotations",),
        )

    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:omnibase:schema:policy:1",
        "title": "OmniBase policy",
        "description": "Cedar's JSON form, limited to what can be decided exactly for patterns.",
        **_object(
            {
                "staticPolicies": {
                    "type": "object",
                    "maxProperties": MAX_POLICIES,
                    "propertyNames": {"pattern": ID_PATTERN},
                    "additionalProperties": {"anyOf": [policy(entity) for entity in groups]},
                },
                "templates": {"type": "object", "maxProperties": 0},
                "templateLinks": {"type": "array", "maxItems": 0},
            }
        ),
        "$defs": {
            "pattern": {
                "type": "array",
                "items": {
                    "anyOf": [
                        {"const": "Wildcard"},
                        _object({"Literal": {"type": "string", "maxLength": MAX_TEXT}}),
                    ]
                },
            },
            **{entity: _conditions(entity) for entity in groups},
        },
    }


def _entity(operator: str, kind: str, id: dict[str, Any]) -> dict[str, Any]:
    entity = _object({"type": {"const": kind}, "id": id})
    return _object({"op": {"const": operator}, "entity": entity})
