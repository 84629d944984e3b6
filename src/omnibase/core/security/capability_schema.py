"""The published JSON Schema of capability files."""

from __future__ import annotations

from typing import Any

from omnibase.core.security.capabilities import CapabilityType

__all__ = ["MAX_CAPABILITIES", "capability_file_schema"]

MAX_CAPABILITIES = 1000
"""Most capabilities that one document may list."""

_SPECIAL = frozenset(
    CapabilityType(name)
    for name in (
        "FILE_READ",
        "FILE_WRITE",
        "NETWORK_CONNECT",
        "SECRET_ACCESS",
        "MEMORY",
        "DATABASE_READ",
        "DATABASE_WRITE",
    )
)


_END = r"(?![\s\S])"
"""Makes the ``$`` before it the very end in every dialect, also before a line feed."""


def capability_file_schema() -> dict[str, Any]:
    """Returns the JSON Schema (draft 2020-12) of a capability document.

    The schema checks the shape, the types and the coarse form of each resource;
    `parse_capabilities` checks the pattern language exactly.
    """
    path = r"/([^/\u0000-\u001f\u007f]+(/[^/\u0000-\u001f\u007f]+)*)?$"
    name = r"[A-Za-z_][A-Za-z0-9_.\-]{0,62}"
    no_dots = r"(?!.*/\.{1,2}(/|$))"
    databases = "|".join((CapabilityType.DATABASE_READ, CapabilityType.DATABASE_WRITE))
    files = "|".join((CapabilityType.FILE_READ, CapabilityType.FILE_WRITE))
    plain = "|".join(t for t in CapabilityType if t not in _SPECIAL)
    forms = (
        rf"^({files}):{no_dots}(?!.*\*\*.)(?!.*[^/]\*\*){path}",
        r"^NETWORK_CONNECT:[^\s/@%?]+:(\*|[1-9][0-9]{0,4}(-[1-9][0-9]{0,4})?)$",
        r"^SECRET_ACCESS:[A-Za-z_][A-Za-z0-9_.\-]*(@[^\s/@%?]+)?$",
        r"^MEMORY:[0-9]{1,18}([KkMmGg]?[Bb]|[KkMmGg][Ii][Bb])?$",
        rf"^({databases}):sqlite:{no_dots}(?!/$)(?!.*[*?]){path}",
        rf"^({databases}):postgres://{name}@[^\s/@%?*]+:[1-9][0-9]{{0,4}}/{name}$",
        rf"^({plain}):(?! )(?!.*\*\*)(?!.* $)[^\u0000-\u001f\u007f]+$",
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:omnibase:schema:capabilities:1",
        "title": "OmniBase capability file",
        "description": "The capabilities that a sandboxed run asks for.",
        "anyOf": [
            {
                "type": "object",
                "properties": {
                    "version": {"const": 1},
                    "capabilities": {"$ref": "#/$defs/capabilities"},
                },
                "required": ["version", "capabilities"],
                "additionalProperties": False,
            },
            {"$ref": "#/$defs/capabilities"},
        ],
        "$defs": {
            "capabilities": {
                "type": "array",
                "items": {"$ref": "#/$defs/item"},
                "maxItems": MAX_CAPABILITIES,
            },
            "item": {
                "anyOf": [
                    {"$ref": "#/$defs/capability"},
                    {
                        "type": "object",
                        "properties": {
                            "capability": {"$ref": "#/$defs/capability"},
                            "reason": {
                                "type": "string",
                                "description": "Why the capability is needed.",
                            },
                        },
                        "required": ["capability"],
                        "additionalProperties": False,
                    },
                ]
            },
            "capability": {
                "type": "string",
                "description": "`TYPE:resource`, e.g. `FILE_READ:/data/**`.",
                "anyOf": [{"pattern": form + _END} for form in forms],
            },
        },
    }
